"""What probes in the code of a process cost it is shown by process."""

from __future__ import annotations

import sys
import urllib.request

from tests.agent import Agent, running_agent
from tests.processes import answers, free_port, running, scratch, wait_until

SERVER = """
import asyncio, sys
async def handle(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
    await writer.drain()
    writer.close()
async def main():
    async with await asyncio.start_server(handle, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()
asyncio.run(main())
"""


def hits(agent: Agent) -> dict[str, float]:
    """By process id."""
    named = [sample for sample in agent.metrics() if sample.name == "otel_ebpf_probe_hits"]
    return {one.labels["otel_ebpf_process"]: one.value for one in named if one.labels["otel_ebpf_runtime"] == "python"}


def ask(port: int) -> None:
    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read()


def test_hits_of_the_probes_in_a_process_are_counted_until_it_ends() -> None:
    port = free_port()
    with scratch() as folder, running_agent() as agent:
        with running([sys.executable, "-c", SERVER, str(port)], answers(port), log=folder / "log") as server:
            pid = str(server.pid)

            def probed() -> bool:
                ask(port)
                return pid in hits(agent)

            wait_until(probed, "the process is probed")
            before = hits(agent)[pid]
            for _ in range(50):
                ask(port)
            assert hits(agent)[pid] - before >= 50  # each connection is a task, with a context of its own
        wait_until(lambda: pid not in hits(agent), "the process is forgotten")
