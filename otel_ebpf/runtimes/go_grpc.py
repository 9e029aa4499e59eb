"""grpc-go in a Go program: which goroutines move the bytes of its connections, and where its code tells of streams.

A server connection is read by the goroutine that `handleRawConn` makes; each stream is handled by `handleStream`, in a
goroutine of its own or of a pool (NumStreamWorkers). All requests of a client connection are written by one loop, to
which callers hand their header fields by `executeAndPut`. What is called where is found by the calls themselves. Only
where a server's stream keeps its number differs by version of grpc-go: that is in a table, and other versions are
refused. On the client's side both ends of the handing over name the fields' address, which proves itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from otel_ebpf.runtimes import go_code
from otel_ebpf.runtimes.base import Refusal
from otel_ebpf.runtimes.go_binary import Functions
from otel_ebpf.runtimes.grpc_offsets import known, offsets_of

SERVER, CLIENT = 4, 8
"""`enum probes`."""
_SERVE, _HANDLE = "google.golang.org/grpc.(*Server).serveStreams", "google.golang.org/grpc.(*Server).handleStream"
_TRANSPORT = "google.golang.org/grpc/internal/transport."
_READ, _OPERATE = _TRANSPORT + "(*http2Server).HandleStreams", _TRANSPORT + "(*http2Server).operateHeaders"
_ASK, _PUT = _TRANSPORT + "(*http2Client).NewStream", _TRANSPORT + "(*controlBuffer).executeAndPut"
_RUN, _RECEIVE = _TRANSPORT + "(*loopyWriter).run", _TRANSPORT + "(*http2Client).reader"
_WRITERS = tuple(
    _TRANSPORT + f"(*loopyWriter).{name}" for name in ("clientHeaderHandler", "originateStream", "headerHandler")
)
"""Of requests: since 1.82.1, before it, and where the compiler has put that into the other."""
_WRITE = _TRANSPORT + "(*loopyWriter).writeHeader"
NAMES = (_SERVE, _HANDLE, _READ, _OPERATE, _ASK, _PUT, _RUN, _RECEIVE, *_WRITERS, _WRITE)
_ACCEPTORS = rb"google\.golang\.org/grpc\.\(\*Server\)\.handleRawConn"
_HANDLERS = rb"google\.golang\.org/grpc\.\(\*Server\)\.serve(?:Streams|rWorker)"
_DIALERS = rb"google\.golang\.org/grpc/internal/transport\.[Nn]ewHTTP2Client"
_SHOWN = 32
_UNLIKE = "its code is not what is expected"

Calls = Callable[[int | None, str], list[int]]
"""Where one function calls another one, by name."""


@dataclass(slots=True)
class Grpc:
    """Addresses from the start of the text. sites: (program, address, `enum probes`).

    reader: start function of who reads a server's frames. loops: of who writes, and who reads, a client's. offsets: of
    a server's streams. refusals: of what is there and cannot be read.
    """

    reader: int = 0
    loops: tuple[int, ...] = ()
    sites: list[tuple[str, int, int]] = field(default_factory=list)
    offsets: Mapping[str, int] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


def look(functions: Functions, code: Callable[[int], bytes], version: str) -> Grpc | None:
    """None: grpc-go is not in this program. code: of the function that begins at an address. version: "v1.67.3"."""
    entries = functions.named(NAMES)

    def calls(caller: int | None, callee: str) -> list[int]:
        if caller is None or callee not in entries:
            return []
        return go_code.calls(code(caller), caller, entries[callee])

    found = Grpc()
    name = f"grpc-go {version[:_SHOWN] or 'of unknown version'}"
    if _ASK in entries:
        _client(found, functions, entries, calls)
        if not found.loops:
            found.refusals.append(Refusal(f"{name} (client)", _UNLIKE))
    if _HANDLE in entries:
        offsets = offsets_of(version)
        if offsets is None:
            why = f"no offsets for this version: known are {' to '.join(known())}"
            found.refusals.append(Refusal(f"{name} (server)", why))
        else:
            found.offsets = offsets
            _server(found, functions, entries, calls)
            if not found.reader:
                found.refusals.append(Refusal(f"{name} (server)", _UNLIKE))
    return found if _ASK in entries or _HANDLE in entries else None


def _server(found: Grpc, functions: Functions, entries: Mapping[str, int], calls: Calls) -> None:
    readers = [starter for starter in functions.like(_ACCEPTORS) if calls(starter, _SERVE)]
    handled = [at for starter in functions.like(_HANDLERS) for at in calls(starter, _HANDLE)]
    read = calls(entries.get(_READ), _OPERATE)
    if len(readers) == 1 and handled and read:
        found.reader = readers[0]
        found.sites += [("go_grpc_reads", at, SERVER) for at in read]
        found.sites += [("go_grpc_handles", at, SERVER) for at in handled]


def _client(found: Grpc, functions: Functions, entries: Mapping[str, int], calls: Calls) -> None:
    dialers = functions.like(_DIALERS)
    writers = [starter for starter in dialers if calls(starter, _RUN)]
    readers = [starter for starter in dialers if calls(starter, _RECEIVE)]
    asked = calls(entries.get(_ASK), _PUT)
    written = next((sites for name in _WRITERS if (sites := calls(entries.get(name), _WRITE))), [])
    if len(writers) == 1 and len(asked) == 1 and written:
        found.loops = (writers[0], *readers[:1])
        found.sites += [("go_grpc_asks", at, CLIENT) for at in asked]
        found.sites += [("go_grpc_writes", at, CLIENT) for at in written]
