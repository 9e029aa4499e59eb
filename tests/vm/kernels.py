"""Debian's stock kernels, fetched and unpacked beside the tests: 5.10 (bullseye), 6.1 and 6.12 (bookworm).

Packages come through apt, signatures checked by Debian's own keyring, with lists and caches of their own so that the
host's apt is left as it is. Unpacked, not installed: .cache/kernels/SERIES/{boot/vmlinuz-*,lib/modules/*}.

>>> kernel = fetch("6.1")
>>> kernel.release, kernel.image.name
('6.1.0-56-amd64', 'vmlinuz-6.1.0-56-amd64')
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

SERIES = {
    "5.10": ("bullseye", r"linux-image-(5\.10\.0-\d+)-amd64"),
    "6.1": ("bookworm", r"linux-image-(6\.1\.0-\d+)-amd64"),
    "6.12": ("bookworm-security", r"linux-image-(6\.12\.\d+)\+deb12-amd64"),
}
"""Series → the suite that has it, and its package with the part that orders them."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel package."""

    release: str
    image: Path
    modules: Path

    @contextmanager
    def linked(self) -> Iterator[None]:
        """Its modules at /lib/modules/RELEASE meanwhile: where virtme-ng, on the host and in the guest, looks."""
        link = Path("/lib/modules") / self.release
        link.parent.mkdir(parents=True, exist_ok=True)
        ours = not link.exists()
        if ours:
            link.unlink(missing_ok=True)
            link.symlink_to(self.modules)
        try:
            yield
        finally:
            if ours:
                link.unlink(missing_ok=True)


def fetch(series: str) -> Kernel:
    """The kernel of `series` ("5.10", "6.1", "6.12"), from the cache or from Debian's archive."""
    folder = CACHE / "kernels" / series
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _download(series, folder)
    modules = next((folder / "lib" / "modules").iterdir())
    return Kernel(modules.name, folder / "boot" / f"vmlinuz-{modules.name}", modules)


def _download(series: str, folder: Path) -> None:
    suite, pattern = SERIES[series]
    apt = _Apt(suite)
    apt.run("update")
    names = [match for name in apt.names("linux-image-") if (match := re.fullmatch(pattern, name))]
    if not names:
        raise RuntimeError(f"suite {suite} has no package {pattern}")
    newest = max(names, key=lambda match: [int(number) for number in re.findall(r"\d+", match[1])])[0]
    folder.mkdir(parents=True)
    apt.run("download", newest, cwd=folder)
    package = next(folder.glob("*.deb"))
    subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
    package.unlink()
    release = next((folder / "lib" / "modules").iterdir()).name
    depmod = shutil.which("depmod", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if depmod is None:
        raise RuntimeError("depmod not found: apt-get install kmod")
    subprocess.run([depmod, "-b", str(folder), release], check=True)
    (folder / "complete").touch()


class _Apt:
    """apt with one suite, and with state of its own."""

    def __init__(self, suite: str) -> None:
        if not KEYRING.exists():
            raise RuntimeError(f"{KEYRING} not found: apt-get install debian-archive-keyring")
        home = CACHE / "apt" / suite
        (home / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (home / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        repository = "debian-security" if suite.endswith("-security") else "debian"
        source = f"deb [arch=amd64 signed-by={KEYRING} check-valid-until=no]"
        (home / "sources.list").write_text(f"{source} http://deb.debian.org/{repository} {suite} main\n")
        self._options = [
            *("-o", f"Dir::Etc::SourceList={home / 'sources.list'}"),
            *("-o", "Dir::Etc::SourceParts=/dev/null"),
            *("-o", f"Dir::State::Lists={home / 'lists'}"),
            *("-o", f"Dir::Cache={home}"),
            # The cache belongs to root: apt's own user could not write there.
            *("-o", "APT::Sandbox::User=root"),
        ]

    def run(self, *arguments: str, cwd: Path = CACHE) -> None:
        done = subprocess.run(
            ["apt-get", *self._options, "-q", *arguments], cwd=cwd, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"apt-get {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")

    def names(self, prefix: str) -> list[str]:
        command = ["apt-cache", *self._options, "pkgnames", prefix]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
