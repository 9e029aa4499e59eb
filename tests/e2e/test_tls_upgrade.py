"""Connections that turn to TLS in mid-stream, fed libraries, and processes that leave TLS state behind."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from otel_ebpf.model import Flag
from tests.e2e.capture import Capture, Seen
from tests.e2e.pairs import folder_of, run
from tests.e2e.peers import Gate, Process, Side, answering, asking, connect, listening, port_of, receive
from tests.e2e.readings import said
from tests.processes import program, scratch, wait_until
from tests.servers import Server, mariadb, nginx, postgresql

ASYNCIO = """
import asyncio, ssl, sys
async def main():
    context = ssl.create_default_context(cafile=sys.argv[2])
    for path in sys.argv[3:]:
        reader, writer = await asyncio.open_connection("localhost", int(sys.argv[1]), ssl=context)
        for _ in range(2):
            writer.write(f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n".encode())
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0]))
        writer.close()
        await writer.wait_closed()
asyncio.run(main())
"""
REQUEST, RESPONSE = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_asyncio_feeds_its_library_and_is_seen_once(capture: Capture) -> None:
    with nginx(tls=True, files={"a": b"1", "b": b"22"}) as web:
        command = (sys.executable, "-c", ASYNCIO, str(web.port), str(web.certificate), "/a", "/b")
        assert run(*command) == ""
        clients, servers = capture.ends(web.port, 4)
    paths = [texts[1] for end in (servers[0], servers[-1]) for texts in said(capture, end)]
    assert paths == ["/a", "/a", "/b", "/b"]
    for end in clients + servers:
        assert end.has(Flag.TLS)
        assert end.seq_req  # the same at both ends: `ends` has paired them by it


def _certificate(folder: Path, owner: str) -> tuple[Path, Path]:
    """A certificate and its key below `folder`, readable by `owner`."""
    certificate, key = folder / "server.crt", folder / "server.key"
    subprocess.run(
        [
            *(program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    for path in (certificate, key):
        shutil.chown(path, owner, owner)
    key.chmod(0o600)
    return certificate, key


def _assert_statements(capture: Capture, server: Server, text: str, count: int) -> None:
    """`count` statements with that text were seen at each end of one connection, and nothing that nobody can read."""

    def with_text() -> list[Seen]:
        return [seen for seen in capture.at(server.port) if text.encode() in seen.request]

    found = capture.wait(with_text, 2 * count)
    assert all(seen.has(Flag.TLS) for seen in found)
    for is_server in (True, False):
        (conn,) = {seen.conn for seen in found if seen.is_server == is_server}
        on_it = [seen for seen in capture.at(server.port) if seen.conn == conn]
        assert all(seen.has(Flag.TLS) or seen.req_bytes < 100 for seen in on_it), "cipher text is no exchange"
        readings = [texts for texts in said(capture, on_it[0]) if any(text in part for part in texts)]
        assert len(readings) == count


def test_a_postgresql_connection_that_turns_to_tls(capture: Capture) -> None:
    with postgresql() as server:
        data = folder_of(server) / "data"
        _certificate(data, "postgres")
        psql = ("psql", "-X", "-tA", "-h", "127.0.0.1", "-U", "postgres", "-p", str(server.port))
        run(*psql, "-c", "alter system set ssl = on", "-c", "select pg_reload_conf()")
        secure = (*psql, "-d", "dbname=postgres sslmode=require")
        wait_until(lambda: run(*secure, "-c", "select 1") == "1\n", "PostgreSQL to speak TLS")
        statements = [word for n in range(3) for word in ("-c", f"select {n} from pg_class as over_tls limit 1")]
        assert run(*secure, *statements).split() == ["0", "1", "2"]
        _assert_statements(capture, server, "over_tls", 3)


def test_a_mariadb_connection_that_turns_to_tls(capture: Capture) -> None:
    with scratch("mysql") as folder:
        certificate, key = _certificate(folder, "mysql")
        with mariadb(f"--ssl-cert={certificate}", f"--ssl-key={key}") as server:
            command = ("mariadb", "--no-defaults", "--ssl", "-h", "127.0.0.1", "-P", str(server.port), "-uroot", "-N")
            assert "TLS" in run(*command, "-e", "show status like 'Ssl_version'")
            run(*command, "-e", "select 1 as over_tls; select 2 as over_tls; select 3 as over_tls")
            _assert_statements(capture, server, "over_tls", 3)


@pytest.fixture(scope="module")
def authority() -> Iterator[tuple[Path, Path]]:
    with scratch() as folder:
        yield _certificate(folder, "root")


def _secured(listener: socket.socket, files: tuple[Path, Path], serve: Side) -> Callable[[], None]:
    def server() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        accepted, _ = listener.accept()
        serve(context.wrap_socket(accepted, server_side=True))

    return server


def _secure(listener: socket.socket) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connect(listener))


def test_plain_text_is_an_exchange_and_cipher_text_is_none(capture: Capture, authority: tuple[Path, Path]) -> None:
    with listening() as listener:

        def ask() -> None:
            with _secure(listener) as client:
                asking(REQUEST, len(RESPONSE), times=5)(client)

        processes = Process(_secured(listener, authority, answering(len(REQUEST), RESPONSE))), Process(ask)
        for process in processes:
            process.end()
        clients, servers = capture.ends(port_of(listener), 5)
    for end in clients + servers:
        assert (end.request, end.response) == (REQUEST, RESPONSE)
        assert end.has(Flag.TLS)
        assert end.t_req <= end.t_rsp <= end.t_rsp_end


def test_a_tls_connection_whose_server_is_killed(capture: Capture, authority: tuple[Path, Path]) -> None:
    with listening() as listener:
        got = Gate()

        def serve(connection: socket.socket) -> None:
            receive(connection, len(REQUEST))
            got.open()
            time.sleep(30)

        def ask() -> None:
            client = _secure(listener)
            client.sendall(REQUEST)
            with pytest.raises(OSError):
                if not client.recv(1):
                    raise ConnectionError

        server, client = Process(_secured(listener, authority, serve)), Process(ask)
        got.wait()
        server.kill()
        client.end()
        for end in capture.one(port_of(listener)):
            assert end.has(Flag.UNANSWERED, Flag.TLS)
            assert end.request == REQUEST


def test_what_processes_leave_behind_goes_with_their_sockets(capture: Capture, authority: tuple[Path, Path]) -> None:
    """They end without SSL_free: the children of the test leave by _exit."""
    kept: list[ssl.SSLSocket] = []
    with listening() as listener:
        told = Gate()

        def serve(connection: socket.socket) -> None:
            answering(len(REQUEST), RESPONSE)(connection)

        def ask() -> None:
            kept.append(_secure(listener))
            asking(REQUEST, len(RESPONSE))(kept[0])
            told.open()

        processes = Process(_secured(listener, authority, serve)), Process(ask)
        told.wait()
        for process in reversed(processes):
            process.end()
        pids = [process.pid for process in processes]
        capture.ends(port_of(listener), 1)
    source = capture.source.object
    keys, _ = source.maps["tls_conns"].entries(source.btf.dtype("tls_key"), source.btf.dtype("tls_conn"))
    assert not np.isin(keys["tgid"], pids).any()
    number = np.dtype([("id", np.uint64)])
    _, sockets = source.maps["tls_sockets"].entries(number, source.btf.dtype("tls_socket"))
    assert not np.isin(sockets["k"]["tgid"], pids).any()
