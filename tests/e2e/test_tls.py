"""HTTPS of programs that link libssl: plaintext spans at both ends, none doubled, one trace (issue acceptance 2)."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

from tests.agent import Agent, running_agent
from tests.e2e.pairs import assert_joined, at, both_ends, ends, run
from tests.processes import scratch
from tests.servers import Web, nginx
from tests.sink import Sink
from tests.spans import SeenSpan

REQUESTS = """
import sys, requests
with requests.Session() as session:
    for path in sys.argv[3:]:
        assert session.get(sys.argv[1] + path, verify=sys.argv[2]).status_code == 200
"""


SLOWLY = REQUESTS.replace("status_code == 200", "status_code == 200; time.sleep(2)").replace("sys, ", "sys, time, ")


def _assert_https(spans: list[SeenSpan], web: Web, path: str) -> None:
    client, server = ends([span for span in spans if path in str(span.attributes)], web)
    assert_joined(client, server)
    assert server["url.scheme"] == "https"
    assert server["url.path"] == path
    assert client["url.full"] == f"https://localhost:{web.port}{path}"
    assert client["http.response.status_code"] == 200


def test_curl_over_https(agent: Agent, sink: Sink) -> None:
    with nginx(tls=True) as web:
        body = run("curl", "-s", "--http1.1", "--cacert", str(web.certificate), f"{web.url}/hello.txt")
        assert body == "hello\n"
        spans = sink.wait(both_ends(web))

    _assert_https(spans, web, "/hello.txt")


def test_python_requests_over_one_https_connection(agent: Agent, sink: Sink) -> None:
    with nginx(tls=True, files={"a": b"1", "b": b"2"}) as web:
        run(sys.executable, "-c", REQUESTS, web.url, str(web.certificate), "/a", "/b")
        spans = sink.wait(both_ends(web, 2))

    _assert_https(spans, web, "/a")
    _assert_https(spans, web, "/b")
    # The cipher text of the connection is no exchange of its own.
    assert len([span for span in spans if at(web, "server")(span) or at(web, "client")(span)]) == 4


def test_a_process_that_had_loaded_its_tls_library_before_the_agent_started(sink: Sink) -> None:
    with nginx(tls=True) as web, running_agent(sink.endpoint):
        run("curl", "-s", "--http1.1", "--cacert", str(web.certificate), f"{web.url}/hello.txt")
        spans = sink.wait(both_ends(web))

    _assert_https(spans, web, "/hello.txt")


def test_a_library_of_its_own_is_found_when_a_process_begins_to_use_it(agent: Agent, sink: Sink) -> None:
    """As in containers, and in wheels that bring theirs: nothing is known of it until then."""
    with nginx(tls=True, files={"a": b"1", "b": b"2"}) as web, scratch() as folder:
        for library in ("libssl.so.3", "libcrypto.so.3"):
            shutil.copy(Path(f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}") / library, folder)
        command = (sys.executable, "-c", SLOWLY, web.url, str(web.certificate), "/a", "/b")
        run("env", f"LD_LIBRARY_PATH={folder}", *command)
        spans = sink.wait(lambda spans: any(at(web, "client")(span) and "/b" in str(span.attributes) for span in spans))

    _assert_https([span for span in spans if "/b" in str(span.attributes)], web, "/b")


def test_a_call_for_a_request_that_came_by_https_is_its_child(agent: Agent, sink: Sink) -> None:
    with nginx() as back, nginx(tls=True, upstream=back.url) as front:
        assert run("curl", "-s", "--cacert", str(front.certificate), f"{front.url}/hello.txt") == "hello\n"
        spans = sink.wait(lambda spans: both_ends(front)(spans) and both_ends(back)(spans))

    (request,) = filter(at(front, "server"), spans)
    (call,) = filter(at(back, "client"), spans)
    assert (call.trace, call.parent) == (request.trace, request.id)
    assert call["otel_ebpf.link.method"] == "thread-alone"
