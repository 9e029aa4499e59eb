"""ctypes binding of exactly the libbpf functions that we use, each with its argument and result types.

libbpf ≥ 1.0 (`libbpf.so.1`). A failed call raises `KernelError` with errno and the last lines of libbpf's own log.
"""

from __future__ import annotations

import collections
import ctypes as C
import functools
import os
from collections.abc import Callable
from typing import Any

from otel_ebpf.errors import KernelError, UnsupportedError

LOG_LINES = 12
_WARN = 0  # enum libbpf_print_level
_VERIFIER_LOG = 1 << 24


class IterLinkInfo(C.Union):
    """`union bpf_iter_link_info` (uapi/linux/bpf.h): which map an iterator walks."""

    _fields_ = [("map_fd", C.c_uint32), ("pad", C.c_uint32 * 4)]


class IterAttachOpts(C.Structure):
    """`struct bpf_iter_attach_opts` (libbpf.h)."""

    _fields_ = [("sz", C.c_size_t), ("link_info", C.POINTER(IterLinkInfo)), ("link_info_len", C.c_uint32)]


class UprobeOpts(C.Structure):
    """`struct bpf_uprobe_opts` (libbpf.h)."""

    _fields_ = [
        ("sz", C.c_size_t),
        ("ref_ctr_offset", C.c_size_t),
        ("bpf_cookie", C.c_uint64),
        ("retprobe", C.c_bool),
        ("func_name", C.c_char_p),
    ]


class ProgInfo(C.Structure):
    """`struct bpf_prog_info` (uapi/linux/bpf.h), as far as the run statistics."""

    _fields_ = [
        ("type", C.c_uint32),
        ("id", C.c_uint32),
        ("tag", C.c_uint8 * 8),
        ("jited_prog_len", C.c_uint32),
        ("xlated_prog_len", C.c_uint32),
        ("jited_prog_insns", C.c_uint64),
        ("xlated_prog_insns", C.c_uint64),
        ("load_time", C.c_uint64),
        ("created_by_uid", C.c_uint32),
        ("nr_map_ids", C.c_uint32),
        ("map_ids", C.c_uint64),
        ("name", C.c_char * 16),
        ("ifindex", C.c_uint32),
        ("gpl_compatible", C.c_uint32),
        ("netns_dev", C.c_uint64),
        ("netns_ino", C.c_uint64),
        ("nr_jited_ksyms", C.c_uint32),
        ("nr_jited_func_lens", C.c_uint32),
        ("jited_ksyms", C.c_uint64),
        ("jited_func_lens", C.c_uint64),
        ("btf_id", C.c_uint32),
        ("func_info_rec_size", C.c_uint32),
        ("func_info", C.c_uint64),
        ("nr_func_info", C.c_uint32),
        ("nr_line_info", C.c_uint32),
        ("line_info", C.c_uint64),
        ("jited_line_info", C.c_uint64),
        ("nr_jited_line_info", C.c_uint32),
        ("line_info_rec_size", C.c_uint32),
        ("jited_line_info_rec_size", C.c_uint32),
        ("nr_prog_tags", C.c_uint32),
        ("prog_tags", C.c_uint64),
        ("run_time_ns", C.c_uint64),
        ("run_cnt", C.c_uint64),
        ("recursion_misses", C.c_uint64),
        ("verified_insns", C.c_uint32),
        ("attach_btf_obj_id", C.c_uint32),
        ("attach_btf_id", C.c_uint32),
    ]


_P, _S, _I, _U32, _U64, _N, _B = C.c_void_p, C.c_char_p, C.c_int, C.c_uint32, C.c_uint64, C.c_size_t, C.c_bool

_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "bpf_object__open_file": (_P, (_S, _P)),
    "bpf_object__load": (_I, (_P,)),
    "bpf_object__close": (None, (_P,)),
    "bpf_object__next_program": (_P, (_P, _P)),
    "bpf_object__next_map": (_P, (_P, _P)),
    "bpf_program__name": (_S, (_P,)),
    "bpf_program__fd": (_I, (_P,)),
    "bpf_program__set_autoload": (_I, (_P, _B)),
    "bpf_program__attach": (_P, (_P,)),
    "bpf_program__attach_cgroup": (_P, (_P, _I)),
    "bpf_program__attach_iter": (_P, (_P, C.POINTER(IterAttachOpts))),
    "bpf_program__attach_uprobe_opts": (_P, (_P, _I, _S, _N, C.POINTER(UprobeOpts))),
    "bpf_link__fd": (_I, (_P,)),
    "bpf_link__destroy": (_I, (_P,)),
    "bpf_map__name": (_S, (_P,)),
    "bpf_map__fd": (_I, (_P,)),
    "bpf_map__max_entries": (_U32, (_P,)),
    "bpf_map__set_max_entries": (_I, (_P, _U32)),
    "bpf_map__key_size": (_U32, (_P,)),
    "bpf_map__value_size": (_U32, (_P,)),
    "bpf_map__initial_value": (_P, (_P, C.POINTER(_N))),
    "bpf_map__set_autocreate": (_I, (_P, _B)),
    "bpf_map__reuse_fd": (_I, (_P, _I)),
    "bpf_map_lookup_elem": (_I, (_I, _P, _P)),
    "bpf_map_update_elem": (_I, (_I, _P, _P, _U64)),
    "bpf_map_delete_elem": (_I, (_I, _P)),
    "bpf_map_lookup_batch": (_I, (_I, _P, _P, _P, _P, C.POINTER(_U32), _P)),
    "bpf_iter_create": (_I, (_I,)),
    "bpf_prog_attach": (_I, (_I, _I, _I, _U32)),
    "bpf_obj_get_info_by_fd": (_I, (_I, _P, C.POINTER(_U32))),
    "bpf_enable_stats": (_I, (_I,)),
    "libbpf_num_possible_cpus": (_I, ()),
    "libbpf_set_print": (_P, (_P,)),
    "libbpf_major_version": (_U32, ()),
    "libbpf_minor_version": (_U32, ()),
}

_log: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
_PRINT = C.CFUNCTYPE(_I, _I, _S, _P)
_vsnprintf = C.CDLL(None).vsnprintf
_vsnprintf.argtypes = (_P, _N, _S, _P)


def _print(level: int, template: bytes, arguments: int) -> int:
    if level > _WARN:
        return 0
    text = C.create_string_buffer(_VERIFIER_LOG)  # untouched pages cost nothing
    _vsnprintf(text, len(text), template, arguments)
    _log.extend(text.value.decode("utf-8", "replace").splitlines())
    return 0


_PRINTER = _PRINT(_print)
"""Kept alive: libbpf calls it as long as it is loaded."""


@functools.cache
def library() -> C.CDLL:
    """libbpf, loaded once, with its log kept for error messages."""
    try:
        lib = C.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise UnsupportedError(
            "libbpf.so.1 not found: install libbpf1 (Debian, Ubuntu) or libbpf (Fedora, Arch, SUSE)"
        ) from None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.libbpf_set_print(C.cast(_PRINTER, _P))
    return lib


def error(what: str, code: int | None = None) -> KernelError:
    """The exception for a failed call: errno, and what libbpf and the verifier said.

    >>> raise error("load requests")
    """
    number = abs(code) if code else C.get_errno()
    said = [line for line in _log if line and not line.startswith(("libbpf: ", "processed ", "-- END", "mark_precise"))]
    detail = f" ({'; '.join(said[-2:])})" if said else ""
    _log.clear()
    return KernelError(number, f"{what}: {os.strerror(number)}{detail}")


def call(name: str, *arguments: Any) -> int:  # noqa: ANN401 - the signatures above hold the types
    """A function that returns 0 or more, or a negative errno."""
    result: int = getattr(library(), name)(*arguments)
    if result < 0:
        raise error(name, -result if result != -1 else None)
    return result


def pointer(name: str, *arguments: Any) -> int:  # noqa: ANN401
    """A function that returns a pointer, or NULL and errno."""
    result: int | None = getattr(library(), name)(*arguments)
    if not result:
        raise error(name)
    return result


def each(name: str, of: int) -> list[int]:
    """All of a `bpf_object__next_*` chain."""
    following: Callable[[int, int | None], int | None] = getattr(library(), name)
    found: list[int] = []
    item = following(of, None)
    while item:
        found.append(item)
        item = following(of, item)
    return found
