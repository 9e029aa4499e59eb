"""What one SQL connection remembers: bounded, and a version that changes exactly when something else is remembered.

Texts lie in `Session.remembered` in the order of their last use, so that the one that was not used for longest goes
when there are too many. Using one does not change the version: it changes no reading.
"""

from __future__ import annotations

from otel_ebpf.protocols.base import Session

REMEMBERED = 256
"""Entries of one connection (pgjdbc keeps as many prepared statements)."""

NAMESPACE = b"db"
SYSTEM = b"system"
_KEPT = frozenset({NAMESPACE, SYSTEM})

CUT = "\0"
"""Behind a text that capture cut."""


def remember(session: Session, key: bytes, text: str | None) -> None:
    """`text` under `key`; None forgets it."""
    if text is None:
        forget(session, key)
        return
    remembered = session.remembered
    known = remembered.pop(key, None)
    remembered[key] = text
    if known != text:
        session.version += 1
        if len(remembered) > REMEMBERED:
            oldest = next(key for key in remembered if key not in _KEPT)
            del remembered[oldest]


def recall(session: Session, key: bytes) -> str | None:
    """The text under `key`, which counts as used now."""
    text = session.remembered.pop(key, None)
    if text is not None:
        session.remembered[key] = text
    return text


def forget(session: Session, key: bytes) -> None:
    """Nothing under `key` any more."""
    if session.remembered.pop(key, None) is not None:
        session.version += 1
