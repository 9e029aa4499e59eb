"""WIP"""
from __future__ import annotations
from tests.e2e.test_hosts import *  # noqa
from tests.sink import Sink

def test_try(sink: Sink) -> None:
    with shop() as place:
        with ExitStack() as stack:
            agents = [stack.enter_context(running_agent(sink.endpoint, "--set", f"filter.network_namespace={h.path}", "--set", "propagation=tcp-option", "--set", "traces.completion=off")) for h in (place.hosts.client, place.hosts.server)]
            place.drive(first=5000)
            import time; time.sleep(4)
            ids = place.drive()
            spans = sink.wait(lambda spans: sum(len(some) for some in by_request(spans, ids).values()) >= 2 * len(HOPS) * len(ids), 30)
            for a in agents:
                print(a.said())
                print([ (s.name, s.labels, s.value) for s in a.metrics() if "propag" in s.name or "wire" in s.name])
    found = by_request(spans, ids)
    c = Counter()
    for some in found.values():
        c[len({s.trace for s in some})] += 1
    print("traces per request", c)
    print(Counter((s.kind, s.service, s.get("otel_ebpf.link.method"), s.get("url.scheme")) for some in found.values() for s in some))
    wrong = Counter(w for some in found.values() for w in wrong_in(some))
    print(wrong)
