"""Flags and enumerations of the model as numpy scalars: an enum costs 1 µs each time that it meets an array."""

from __future__ import annotations

import numpy as np

from otel_ebpf.model import STREAM as _STREAM
from otel_ebpf.model import Flag, Kind, Link

ANSWERING = np.uint32(Flag.ANSWERING)
EPOLL = np.uint32(Flag.EPOLL)
HEAD = np.uint32(Flag.HEAD)
MANY = np.uint32(Flag.MANY)
PARTIAL = np.uint32(Flag.PARTIAL)
PEER = np.uint32(Flag.PEER)
AMENDS = np.uint32(Flag.AMENDS)
TLS = np.uint32(Flag.TLS)
STREAM = np.uint32(_STREAM)
UNANSWERED = np.uint32(Flag.UNANSWERED)
SUCCEEDS = np.uint32(Flag.SUCCEEDS)
AWAKE = np.uint32(Flag.EPOLL | Flag.DISTURBED | Flag.MANY | Flag.UNANSWERED)
"""Any of these: the thread did not simply sleep until its call was answered."""

SERVER = np.uint8(Kind.SERVER)
CLIENT = np.uint8(Kind.CLIENT)

NO_LINK = np.uint8(Link.NONE)
TRACEPARENT = np.uint8(Link.TRACEPARENT)
CONNECTION = np.uint8(Link.CONNECTION)
TCP_OPTION = np.uint8(Link.TCP_OPTION)
PENDING = np.uint8(Link.PENDING)
