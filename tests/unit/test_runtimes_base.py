"""Layouts as the kernel side reads them."""

from __future__ import annotations

from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.runtimes.base import Kind, Layout

BTF = Btf.of_object(object_path("requests"))


def test_the_kinds_are_those_of_the_kernel_side() -> None:
    kinds = BTF.enum("runtime_kind")
    assert {f"RUNTIME_{kind.name}": int(kind) for kind in Kind} == {k: v for k, v in kinds.items() if v}


def test_a_layout_is_as_long_as_the_map_wants_it() -> None:
    for kind in Kind:
        packed = Layout(kind, "1.2").packed(BTF)
        assert len(packed) == BTF.dtype("runtime").itemsize
        assert int.from_bytes(packed[:4], "little") == kind
