"""How proxies are started: from a configuration in `apps/proxies`, in which @PORT@, @BACKEND@, @HOST@, @BACKEND_PORT@
and @FOLDER@ stand for what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.fidelity.row import APPS, Start
from tests.fidelity.site import CACHE, Site
from tests.processes import program


@dataclass(frozen=True, slots=True)
class Proxy:
    """A kind of proxy. file: its configuration; command: starts it, {folder}/`file` is its own."""

    name: str
    file: str
    command: tuple[str, ...]

    @contextmanager
    def before(self, site: Site, port: int, backend: str) -> Iterator[None]:
        """One that listens on `port` and passes everything to `backend`."""
        host, _, backend_port = backend.partition(":")
        text = (APPS / "proxies" / self.file).read_text()
        for name, value in (
            ("PORT", str(port)),
            ("BACKEND", backend),
            ("HOST", host),
            ("BACKEND_PORT", backend_port),
            ("FOLDER", str(site.folder)),
        ):
            text = text.replace(f"@{name}@", value)
        (site.folder / self.file).write_text(text)
        words = [program(self.command[0], self.name), *self.command[1:]]
        with site.run(self.name, words, port=port, backend=backend, calls=1):
            yield

    @property
    def alone(self) -> Start:
        """The row of it alone."""

        @contextmanager
        def start(site: Site) -> Iterator[None]:
            with self.before(site, site.front(), site.backend):
                yield

        return start


NGINX = Proxy("nginx", "nginx.conf", ("nginx", "-c", "{folder}/nginx.conf", "-e", "{folder}/error.log"))
NGINX_IDS = Proxy("nginx", "nginx-ids.conf", ("nginx", "-c", "{folder}/nginx-ids.conf", "-e", "{folder}/error.log"))
HAPROXY = Proxy("haproxy", "haproxy.cfg", ("haproxy", "-db", "-f", "{folder}/haproxy.cfg"))
APACHE = Proxy("apache", "apache.conf", ("apache2", "-DFOREGROUND", "-f", "{folder}/apache.conf"))
CADDY = Proxy("caddy", "Caddyfile", ("caddy", "run", "--config", "{folder}/Caddyfile", "--adapter", "caddyfile"))
ENVOY = Proxy(
    "envoy",
    "envoy.yaml",
    (str(CACHE / "envoy/envoy/_bin/envoy"), "-c", "{folder}/envoy.yaml", "--concurrency", "2", "--use-dynamic-base-id"),
)
VARNISH = Proxy(
    "varnish",
    "default.vcl",
    ("varnishd", "-F", "-a", "127.0.0.1:{port}", "-f", "{folder}/default.vcl", "-n", "{folder}/varnish", "-T", "none"),
)
