"""`filter.network_namespace`: what names a network namespace."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_ebpf.capture.namespace import inode_of
from otel_ebpf.errors import ConfigError

OWN = Path("/proc/self/ns/net").stat().st_ino


@pytest.mark.parametrize(
    ("text", "inode"), [(None, 0), ("own", OWN), ("/proc/self/ns/net", OWN), ("4026531840", 4026531840)]
)
def test_what_names_a_namespace(text: str | None, inode: int) -> None:
    assert inode_of(text) == inode


@pytest.mark.parametrize(("text", "said"), [("/run/netns/not-there", "No such file"), ("/etc/passwd", "no namespace")])
def test_what_names_none_is_told(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        inode_of(text)
