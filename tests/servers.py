"""The real servers that the tests, the kernel matrix and the benchmarks talk to, each on a free port and in a folder
of its own; the block's end ends them.

    with nginx(files={"hello.txt": b"hello"}) as web:
        run(["curl", f"{web.url}/hello.txt"])
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import answers, descendants, free_port, program, running, scratch, succeeds

CACHE = Path(__file__).resolve().parents[1] / ".cache"
"""What is slow to make and does not change: empty databases, the Collector."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers: `port` on 127.0.0.1, `socket` if it has a unix one, `log` what it says."""

    pid: int
    port: int
    log: Path
    socket: Path | None = None

    def pids(self) -> set[int]:
        """Its processes at this moment."""
        return descendants(self.pid)


@dataclass(frozen=True, slots=True)
class Web(Server):
    """An nginx. `certificate`: what a client is to trust, if it speaks TLS."""

    certificate: Path | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self.certificate else f"http://127.0.0.1:{self.port}"


_NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes {workers};
worker_rlimit_nofile {descriptors};
events {{ worker_connections {connections}; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port} backlog=4096{tls}{http2}; {listen_unix}
    root {folder}/www;
    {locations}
  }}
}}
"""


@contextmanager
def nginx(
    *,
    files: Mapping[str, bytes] | None = None,
    workers: int = 1,
    tls: bool = False,
    upstream: str | None = None,
    unix: bool = False,
    http2: bool = False,
    locations: str = "",
    connections: int = 1024,
    port: int = 0,
) -> Iterator[Web]:
    """nginx with static `files` below /.

    tls: HTTPS with a certificate made for localhost. upstream: everything is passed to it ("http://127.0.0.1:80",
    "http://unix:/run/x.sock:"). unix: it listens on a unix socket too. http2: beside HTTP/1 with TLS, alone without.
    locations: more of the server block.
    connections: it can hold; with more than 15/16 of them in use nginx closes idle ones. port: 0 is any that is free.
    """
    with scratch() as folder:
        www = folder / "www"
        www.mkdir()
        for name, content in (files or {"hello.txt": b"hello\n"}).items():
            (www / name).parent.mkdir(parents=True, exist_ok=True)
            (www / name).write_bytes(content)
        port, path = port or free_port(), folder / "nginx.sock"
        certificate, key = folder / "cert.pem", folder / "key.pem"
        if tls:
            make_certificate(certificate, key)
            locations += f"ssl_certificate {certificate}; ssl_certificate_key {key};"
        if upstream:
            locations += (
                f"location / {{ proxy_pass {upstream}; proxy_http_version 1.1; proxy_set_header Connection ''; }}"
            )
        (folder / "nginx.conf").write_text(
            _NGINX.format(
                folder=folder,
                port=port,
                workers=workers,
                connections=connections,
                descriptors=connections + 200,
                tls=" ssl" if tls else "",
                http2=" http2" if http2 else "",
                listen_unix=f"listen unix:{path};" if unix else "",
                locations=locations,
            )
        )
        command = [program("nginx", "nginx"), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        with running(command, answers(port), log=folder / "output") as process:
            yield Web(process.pid, port, folder / "error.log", path if unix else None, certificate if tls else None)


def make_certificate(certificate: Path, key: Path) -> None:
    """A certificate for localhost that vouches for itself, and its key, as PEM files."""
    subprocess.run(
        [
            *(program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )


@contextmanager
def redis(*, unix: bool = False, tls: bool = False) -> Iterator[Server]:
    """redis-server without persistence. tls: it speaks nothing else, with a certificate made for localhost."""
    with scratch() as folder:
        port, path = free_port(), folder / "redis.sock"
        command = [program("redis-server", "redis-server"), "--tls-port" if tls else "--port", str(port)]
        command += ["--bind", "127.0.0.1", "--save", ""]
        if tls:
            certificate, key = folder / "cert.pem", folder / "key.pem"
            make_certificate(certificate, key)
            command += ["--port", "0", "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
            command += ["--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificate)]
        if unix:
            command += ["--unixsocket", str(path), "--unixsocketperm", "777"]
        with running(command, answers(port), log=folder / "log") as process:
            yield Server(process.pid, port, folder / "log", path if unix else None)


@contextmanager
def postgresql(*, tls: bool = False) -> Iterator[Server]:
    """PostgreSQL on TCP and on a unix socket (psql -h DIR takes `socket.parent`), role and database `postgres`.

    tls: who asks for TLS gets it, with a certificate made for localhost.
    """
    with scratch("postgres") as folder:
        programs = _newest_postgresql()
        data, port = folder / "data", free_port()

        def make(target: Path) -> list[str]:
            return [str(programs / "initdb"), "-D", str(target), "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]

        _from_cache(f"postgresql-{programs.parent.name}", data, make, "postgres")
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder), "-F"]
        command += ["-c", "listen_addresses=127.0.0.1"]
        if tls:
            certificate, key = folder / "cert.pem", folder / "key.pem"
            make_certificate(certificate, key)
            for path in (certificate, key):
                shutil.chown(path, "postgres", "postgres")
            key.chmod(0o600)
            command += ["-c", "ssl=on", "-c", f"ssl_cert_file={certificate}", "-c", f"ssl_key_file={key}"]
        psql = program("psql", "postgresql-client")
        ready = succeeds(psql, "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-c", "select")
        # SIGQUIT: immediate shutdown, nothing here is worth a checkpoint.
        with running(command, ready, log=folder / "log", user="postgres", end_signal=signal.SIGQUIT) as process:
            yield Server(process.pid, port, folder / "log", folder / f".s.PGSQL.{port}")


def _newest_postgresql() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else Path(program("initdb", "postgresql")).parent


@contextmanager
def mariadb(*options: str) -> Iterator[Server]:
    """MariaDB on TCP and on a unix socket, user `root` without a password. options: more for its command line."""
    with scratch("mysql") as folder:
        data, port, path = folder / "data", free_port(), folder / "mariadb.sock"
        install = program("mariadb-install-db", "mariadb-server")

        def make(target: Path) -> list[str]:
            return [install, "--no-defaults", f"--datadir={target}", "--auth-root-authentication-method=normal"]

        _from_cache("mariadb", data, make, "mysql")
        command = [program("mariadbd", "mariadb-server"), "--no-defaults", f"--datadir={data}", f"--port={port}"]
        command += ["--bind-address=127.0.0.1", f"--socket={path}", *options]
        client = program("mariadb", "mariadb-client")
        ready = succeeds(client, "--no-defaults", f"--socket={path}", "-uroot", "-e", "select 1")
        with running(command, ready, log=folder / "log", user="mysql", end_signal=signal.SIGKILL) as process:
            yield Server(process.pid, port, folder / "log", path)


def _from_cache(name: str, data: Path, command: Callable[[Path], list[str]], owner: str) -> None:
    """A fresh database folder at `data`: a copy of the one that was made once, which takes seconds."""
    stored = CACHE / "databases" / name
    if not stored.exists():
        subprocess.run(
            command(data),
            check=True,
            capture_output=True,
            user=owner,
            group=owner,
            extra_groups=[],
            cwd=data.parent,
        )
        stored.parent.mkdir(parents=True, exist_ok=True)
        partial = stored.with_name(f"{name}.{data.parent.name}")
        shutil.copytree(data, partial, symlinks=True)
        partial.rename(stored)
        return
    shutil.copytree(stored, data, symlinks=True)
    data.chmod(0o700)
    for path in (data, *data.rglob("*")):
        shutil.chown(path, owner, owner)


@contextmanager
def dnsmasq(addresses: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A name server, UDP and TCP, that knows `addresses` ("www.test" → 127.0.0.4) and denies the rest of .test."""
    with scratch() as folder:
        port = free_port(socket.SOCK_DGRAM)
        command = [program("dnsmasq", "dnsmasq-base"), "-k", "-p", str(port), "--listen-address=127.0.0.1"]
        command += ["--bind-interfaces", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file"]
        command += ["--user=root", "--local=/test/"]
        command += [
            f"--host-record={name},{address}" for name, address in (addresses or {"www.test": "127.0.0.4"}).items()
        ]
        with running(command, answers(port), log=folder / "log") as process:
            yield Server(process.pid, port, folder / "log")
