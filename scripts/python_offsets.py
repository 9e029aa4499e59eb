#!/usr/bin/env python3
"""Where CPython keeps what we read of a thread, measured in real interpreters: otel_ebpf/runtimes/python_offsets.py.

    scripts/python_offsets.py               measure the interpreters at hand, print what differs from the table
    scripts/python_offsets.py --write       and write the table: what could not be measured now stays in it
    scripts/python_offsets.py PYTHON…       these instead (`NAME=VALUE` before it: its environment)

Each interpreter runs a probe that looks for known values (its thread, its context) in its own memory. Standard library
only; the probe is as old as Python 3.8.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "otel_ebpf" / "runtimes" / "python_offsets.py"
FIELDS = (
    "runtime_key",
    "runtime_main",
    "interpreter_threads",
    "thread_next",
    "thread_interpreter",
    "thread_id",
    "context",
    "stack",
    "stack_back",
    "entered",
)
DIFFERS, MISSING = 1, 2

PROBE = r"""
import contextvars, ctypes as C, json, sys, threading
api, libc = C.pythonapi, C.CDLL(None)
if hasattr(sys, "_is_gil_enabled") and "t" in getattr(sys, "abiflags", ""):
    sys.exit("free-threaded")
def word(at): return int.from_bytes(C.string_at(at, 8), "little")
def find(base, value, size, count=8):
    data, wanted = C.string_at(base, size), value.to_bytes(count, "little")
    return [o for o in range(0, size - count + 1, 4) if data[o:o + count] == wanted]
api.PyThreadState_Get.restype = api.PyInterpreterState_Main.restype = C.c_void_p
libc.pthread_self.restype = libc.pthread_getspecific.restype = C.c_uint64
thread, interpreter, me = api.PyThreadState_Get(), api.PyInterpreterState_Main(), libc.pthread_self()
runtime = C.addressof(C.c_char.in_dll(api, "_PyRuntime"))
modern = sys.version_info >= (3, 12)
sizes = dict(runtime=0x1000, interpreter=0x3000 if modern else 0x400, thread=0x130 if modern else 0x100)
key = next(k for k in range(32) if libc.pthread_getspecific(k) == thread)
assert key, "the key cannot be told from a count"
found = {"runtime_key": find(runtime, 1 | key << 32, sizes["runtime"])[0]}
head = find(runtime, interpreter, sizes["runtime"])  # interpreters.head, then interpreters.main
assert head[1] == head[0] + 8, head
found["runtime_main"] = head[1]
before = set(find(interpreter, thread, sizes["interpreter"]))
other, ready, done = {}, threading.Event(), threading.Event()
def second():
    other["state"] = api.PyThreadState_Get()
    ready.set()
    done.wait()
starting = threading.Thread(target=second)
starting.start()
ready.wait()
found["interpreter_threads"] = next(o for o in find(interpreter, other["state"], sizes["interpreter"]) if o in before)
found["thread_next"] = find(other["state"], thread, 0x20)[0]
done.set()
starting.join()
found["thread_interpreter"] = find(thread, interpreter, 0x20)[0]
found["thread_id"] = find(thread, me, sizes["thread"])[0]
context = contextvars.copy_context()
outside = C.string_at(id(context), 48)
found["context"], inside = context.run(lambda: (find(thread, id(context), 0x180)[0], C.string_at(id(context), 48)))
found["entered"] = next(o for o in range(16, 48, 4) if inside[o:o+4] == b"\1\0\0\0" and not any(outside[o:o+4]))
if sys.version_info >= (3, 11):
    for at in range(0, 0x180, 8):  # struct _stack_chunk {previous, size, top, data}, then its top and limit
        chunk, top, limit = (word(thread + at + 8 * i) for i in range(3))
        if chunk and chunk < top <= limit and limit - chunk in (1 << n for n in range(12, 24)):
            assert word(chunk + 8) == limit - chunk, hex(at)
            found["stack"], found["stack_back"] = at, 0
            break
else:
    frame = sys._getframe()
    copy = C.create_string_buffer(0x40)
    def inner():
        own = sys._getframe()
        C.memmove(copy, thread, 0x40)  # no Python function: it would be the topmost frame
        return find(C.addressof(copy), id(own), 0x40)[0], find(id(own), id(frame), 0x40)[0]
    found["stack"], found["stack_back"] = inner()
print(json.dumps({"version": sys.version.split()[0], "found": found}))
"""


def at_hand() -> list[str]:
    """The system's interpreter, this one, and those of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [Path("/usr/bin/python3"), Path(sys.executable), *sorted(pyenv.glob("versions/3.*/bin/python3"))]
    return [str(path) for path in found if path.exists()]


KEYS = """
#include <pthread.h>
__attribute__((constructor)) static void take(void)
{
    pthread_key_t key;
    for (int i = 0; i < 9; i++) pthread_key_create(&key, 0);
}
"""


def keys_taken(folder: str) -> str:
    """A library to preload, which takes the first keys: else CPython's is 0, and cannot be told from a count."""
    source, library = Path(folder, "keys.c"), Path(folder, "keys.so")
    source.write_text(KEYS)
    subprocess.run(["clang", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


def measure(python: str, environment: Mapping[str, str]) -> tuple[str, dict[str, int]] | None:
    """(version, offsets by name) of one interpreter; None: it could not run the probe, which is said."""
    with tempfile.TemporaryDirectory() as folder:
        preload = {"LD_PRELOAD": keys_taken(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        ran = subprocess.run(
            [python, "-c", PROBE],
            env={**os.environ, **environment, **preload},
            capture_output=True,
            text=True,
            check=False,
        )
    if ran.returncode:
        print(
            f"{python}: not measured: {ran.stderr.strip().splitlines()[-1] if ran.stderr.strip() else ran.returncode}"
        )
        return None
    said = json.loads(ran.stdout)
    return said["version"], said["found"]


def text(table: Mapping[tuple[int, int], tuple[str, Mapping[str, int]]]) -> str:
    """The module's source."""
    lines = [
        '"""Offsets in CPython\'s structures, by minor version. Written by scripts/python_offsets.py: do not edit."""',
        "",
        "from __future__ import annotations",
        "",
        "from dataclasses import dataclass",
        "",
        "",
        "@dataclass(frozen=True, slots=True)",
        "class Offsets:",
        '    """Bytes from the start of the structure; measured with `measured`, in a build with the GIL on x86_64."""',
        "",
        "    measured: str",
        "    runtime_key: int",
        '    """_PyRuntime: gilstate.autoTSSkey {int is_initialized = 1; pthread_key_t key}"""',
        "    runtime_main: int",
        '    """_PyRuntime: interpreters.main"""',
        "    interpreter_threads: int",
        '    """PyInterpreterState: the head of the list of its threads"""',
        "    thread_next: int",
        "    thread_interpreter: int",
        "    thread_id: int",
        '    """PyThreadState: pthread_self() of its thread"""',
        "    context: int",
        '    """PyThreadState: the current PyContext, or NULL"""',
        "    stack: int",
        '    """PyThreadState: 3.11 and later: the topmost chunk of the data stack; before: the topmost frame"""',
        "    stack_back: int",
        '    """of that: the one below, NULL in the lowest"""',
        "    entered: int",
        '    """PyContext: ctx_entered, 1 while it was entered by Context.run"""',
        "",
        "",
        "OFFSETS: dict[tuple[int, int], Offsets] = {",
    ]
    for minor, (version, found) in sorted(table.items()):
        lines.append(f"    {minor}: Offsets(")
        lines.append(f'        measured="{version}",')
        lines += [f"        {name}=0x{found[name]:X}," for name in FIELDS]
        lines.append("    ),")
    return "\n".join([*lines, "}", ""])


def current() -> dict[tuple[int, int], tuple[str, dict[str, int]]]:
    """The table as it is."""
    if not TABLE.exists():
        return {}
    sys.path.insert(0, str(ROOT))
    from otel_ebpf.runtimes.python_offsets import OFFSETS

    return {minor: (o.measured, {n: getattr(o, n) for n in FIELDS}) for minor, o in OFFSETS.items()}


def main(arguments: Sequence[str]) -> int:
    """0: the table says what was measured; 1: it does not; 2: nothing could be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("python", nargs="*")
    options = parser.parse_args(arguments)
    table = current()
    environment: dict[str, str] = {}
    measured = 0
    code = 0
    for word in options.python or at_hand():
        if "=" in word:
            name, _, value = word.partition("=")
            environment[name] = value
            continue
        said = measure(word, environment)
        environment = {}
        if said is None:
            continue
        version, found = said
        major, minor = (int(n) for n in version.split(".")[:2])
        measured += 1
        known = table.get((major, minor))
        if known is None or known[1] != found:
            code = DIFFERS
            print(f"{word} ({version}): {found}; the table: {known}")
        if known is None or known[1] != found:
            table[major, minor] = version, found
    if options.write:
        TABLE.write_text(text(table))
        return 0
    return code if measured else MISSING


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
