"""The shop: which processes it is made of, and how each is started.

Everything listens on 127.0.0.1, on ports that were free, with passwords made for this run; everything lives in one
folder. PostgreSQL, Redis and nginx's workers run as `nobody`, the shop's own services as whoever started the demo, who
alone can be sure to reach the interpreter.
"""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from string import Template

from otel_ebpf.demo.processes import Account, Processes, Service, free_ports
from otel_ebpf.demo.programs import Programs

_HERE = Path(__file__).parent
_LISTENING = ("nginx", "postgres", "redis", "shop", "inventory", "recommendations", "payment", "reports")
CALLERS = ("customers", "backoffice")
"""Who only calls: these end first."""
_POSTGRESQL = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
}
"""Small, and careless with what nobody needs tomorrow."""


class Shop:
    """The shop's processes. say: takes (name, where it listens) whenever one is ready.

    >>> shop = Shop(programs, processes, account(), say=print)
    >>> shop.open()
    >>> customers = shop.let_in(rate=8.0)
    """

    def __init__(
        self, programs: Programs, processes: Processes, account: Account | None, say: Callable[[str, str], None]
    ) -> None:
        self._programs = programs
        self._processes = processes
        self._folder = processes.folder
        self._account = account
        self._say = say
        self._ports = dict(zip(_LISTENING, free_ports(len(_LISTENING)), strict=True))
        self._postgres_password, self._redis_password = secrets.token_urlsafe(18), secrets.token_urlsafe(18)

    @property
    def url(self) -> str:
        """Where the shop can be visited."""
        return f"https://localhost:{self._ports['nginx']}/"

    @property
    def certificate(self) -> Path:
        """What a visitor is to trust."""
        return self._folder / "certificate.pem"

    def open(self) -> None:
        """Start all but those who call."""
        making = [self._make_database(), self._make_certificate()]
        redis = self._redis()
        for process in making:
            self._processes.await_end(process)
        self._processes.await_end(self._fill_database())
        postgres = self._postgres()
        self._await(redis)
        self._await(postgres)
        cache = f"redis://:{self._redis_password}@127.0.0.1:{self._ports['redis']}/0"
        database = f"postgresql://shop:{self._postgres_password}@127.0.0.1:{self._ports['postgres']}/postgres"
        started = [
            self._python("inventory", DATABASE_URL=database),
            self._python("payment", REDIS_URL=cache),
            self._python("reports", DATABASE_URL=database),
            self._node("recommendations", INVENTORY_URL=self._url("inventory")),
            self._python(
                "shop",
                DATABASE_URL=database,
                REDIS_URL=cache,
                INVENTORY_URL=self._url("inventory"),
                RECOMMENDATIONS_URL=self._url("recommendations"),
                PAYMENT_URL=self._url("payment"),
            ),
            self._nginx(),
        ]
        for service in started:
            self._await(service)

    def let_in(self, rate: float) -> Service:
        """Start the customers and the back office; returns the former, who say on stdout how it goes."""
        self._python("backoffice", REPORTS_URL=self._url("reports"))
        return self._processes.start(
            "customers",
            [sys.executable, str(_HERE / "services" / "customers.py")],
            environment={"SHOP_URL": self.url, "SHOP_CERTIFICATE": str(self.certificate), "RATE": str(rate)},
            heard=True,
        )

    def _make_database(self) -> Service:
        home = self._owned("postgres")
        password = self._secret(home / "password", self._postgres_password)
        command = [str(self._programs.postgresql / "initdb"), "-D", str(home / "data"), "-U", "shop"]
        command += ["-A", "scram-sha-256", "--pwfile", str(password), "--no-sync", "-E", "UTF8", "--locale=C"]
        # With a zone given, initdb need not compare the clock with every zone that there is.
        return self._processes.start("initdb", command, account=self._account, folder=home, environment={"TZ": "UTC"})

    def _postgres(self) -> Service:
        home = self._folder / "postgres"
        settings = {"port": str(self._ports["postgres"]), **_POSTGRESQL}
        command = [str(self._programs.postgresql / "postgres"), "-D", str(home / "data")]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # SIGINT is its fast shutdown, which does not wait for clients.
        return self._processes.start("postgres", command, account=self._account, folder=home, end_signal=signal.SIGINT)

    def _fill_database(self) -> Service:
        """By the server itself in its single-user mode: nobody is to see us as a client of the shop's database."""
        home = self._folder / "postgres"
        # -j: statements end with a semicolon and an empty line.
        command = [str(self._programs.postgresql / "postgres"), "--single", "-j", "-D", str(home / "data"), "postgres"]
        schema = _HERE / "data" / "schema.sql"
        return self._processes.start("schema", command, account=self._account, folder=home, reads=schema)

    def _redis(self) -> Service:
        home = self._owned("redis")
        settings = f'bind 127.0.0.1\nport {self._ports["redis"]}\nsave ""\nappendonly no\ndir {home}\n'
        file = self._secret(home / "redis.conf", f"{settings}requirepass {self._redis_password}\n")
        return self._processes.start("redis", [self._programs.redis, str(file)], account=self._account, folder=home)

    def _make_certificate(self) -> Service:
        command = [self._programs.openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-days", "30", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command += ["-keyout", str(self._folder / "key.pem"), "-out", str(self.certificate)]
        return self._processes.start("openssl", command)

    def _nginx(self) -> Service:
        home = self._folder / "nginx"
        static = home / "static"
        static.mkdir(parents=True)
        shutil.copy(_HERE / "data" / "logo.svg", static)
        for path, mode in ((home, 0o755), (static, 0o755), (static / "logo.svg", 0o644)):
            path.chmod(mode)
        user = ""
        if self._account:
            user = f"user {pwd.getpwuid(self._account[0]).pw_name} {grp.getgrgid(self._account[1]).gr_name};"
        text = Template((_HERE / "data" / "nginx.conf").read_text()).substitute(
            folder=home,
            port=self._ports["nginx"],
            shop_port=self._ports["shop"],
            certificate=self.certificate,
            key=self._folder / "key.pem",
            user=user,
        )
        (home / "nginx.conf").write_text(text)
        return self._processes.start("nginx", [self._programs.nginx, "-e", "stderr", "-c", str(home / "nginx.conf")])

    def _python(self, name: str, **variables: str) -> Service:
        environment = {"PORT": str(self._ports.get(name, 0)), **variables}
        command = [sys.executable, str(_HERE / "services" / f"{name}.py")]
        return self._processes.start(name, command, environment=environment)

    def _node(self, name: str, **variables: str) -> Service:
        environment = {"PORT": str(self._ports[name]), **variables}
        command = [self._programs.node, str(_HERE / "services" / name / "server.js")]
        return self._processes.start(name, command, environment=environment)

    def _await(self, service: Service) -> None:
        port = self._ports[service.name]
        self._processes.await_port(service, port)
        self._say(service.name, f"127.0.0.1:{port}")

    def _owned(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(mode=0o700)
        if self._account:
            os.chown(folder, *self._account)
        return folder

    def _secret(self, file: Path, text: str) -> Path:
        file.touch(0o600)
        file.write_text(text)
        if self._account:
            os.chown(file, *self._account)
        return file

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"
