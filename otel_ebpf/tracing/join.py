"""The two ends of one connection: which client row and which server row are the same exchange.

Both have the same `pair`. Over TCP the sequence number of the request's first byte tells the exchange exactly, over TLS
that behind its last, where both ends know it. Unix and UDP sockets have none (`seq` 0): there, a connection carries one
exchange at a time, so the middle of the server's interval lies within the client's. The middle, because a time is taken
when the system call returns, and the other end may have run by then: the edges can be off by a few µs in either
direction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Spans
from otel_ebpf.tracing.bits import CLIENT, HEAD, PEER, STREAM, TLS
from otel_ebpf.tracing.ids import derive
from otel_ebpf.tracing.keys import place
from otel_ebpf.tracing.memory import Released
from otel_ebpf.tracing.pool import FREE, NOWHERE, Pool, Rows

_ALL = slice(None)
CALL_NS = np.uint64(50 * 10**6)
"""What a system call may take between its work and its end, on a busy host; an unfinished response waits for longer."""


def local(spans: Spans, rows: Rows | slice = _ALL) -> NDArray[np.bool_]:
    """(n,) whether the other end of the connection is known to be on this host."""
    near: NDArray[np.bool_] = (spans.flags[rows] & PEER) != 0
    near |= spans.pair[rows] != spans.conn[rows]
    return near


def match(spans: Spans, rows: Rows) -> tuple[Rows, Rows]:
    """Client rows and server rows, pairwise ends of the same exchange, among `rows`: the first row of each record.

    What fits more than one other row fits none: a wrong parent is worse than none.
    """
    numbered = spans.seq[rows] != 0
    exact = _match_sequence(spans, rows[numbered])
    # Of TLS the number is told by what the library did, and one end may not have it, or not the same.
    unnumbered = rows[~numbered | ((spans.flags[rows] & (TLS | STREAM)) == TLS)]
    if len(unnumbered):
        unnumbered = np.setdiff1d(unnumbered, np.concatenate(exact), assume_unique=True)
    if not len(unnumbered):
        return exact
    nested = _match_interval(spans, unnumbered)
    return np.concatenate([exact[0], nested[0]]), np.concatenate([exact[1], nested[1]])


def _match_sequence(spans: Spans, rows: Rows) -> tuple[Rows, Rows]:
    pair, seq = spans.pair[rows], spans.seq[rows]
    keys = place(pair, seq, np.zeros(1, np.int32))
    order = np.argsort(keys)
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    alone = same.copy()  # exactly two rows have this key
    alone[1:] &= ~same[:-1]
    alone[:-1] &= ~same[1:]
    first = alone.nonzero()[0]
    one, other = rows[order[first]], rows[order[first + 1]]
    opposite = spans.kind[one] != spans.kind[other]
    opposite &= (spans.pair[one] == spans.pair[other]) & (spans.seq[one] == spans.seq[other])
    one, other = one[opposite], other[opposite]
    client_first = spans.kind[one] == CLIENT
    return np.where(client_first, one, other), np.where(client_first, other, one)


def _match_interval(spans: Spans, rows: Rows) -> tuple[Rows, Rows]:
    is_client = spans.kind[rows] == CLIENT
    clients, servers = rows[is_client], rows[~is_client]
    if not len(clients) or not len(servers):
        return rows[:0], rows[:0]
    answered = spans.first_byte[servers]
    begin = spans.start[servers]
    until = np.where(answered == 0, spans.end[servers], answered)
    middle = begin + (np.maximum(until, begin) - begin) // np.uint64(2)
    # The last client row of the pair that began before the server's middle: merge both by (pair, time).
    pair = np.concatenate([spans.pair[clients], spans.pair[servers]])
    time = np.concatenate([spans.start[clients], middle])
    order = np.lexsort((time, pair))  # stable: at equal times the client comes first
    source = np.where(order < len(clients), np.arange(len(order)), NOWHERE)
    latest = np.maximum.accumulate(source)
    at_server = (order >= len(clients)).nonzero()[0]
    found = latest[at_server]
    server = servers[order[at_server] - len(clients)]
    client = clients[order[np.maximum(found, 0)] * (found >= 0)]
    middle = middle[order[at_server] - len(clients)]
    fits = (found >= 0) & (spans.pair[client] == spans.pair[server]) & (middle <= spans.end[client])
    # What was left unread of a request (FastCGI's last record) looks like one more, that is never answered.
    fits &= (answered[order[at_server] - len(clients)] != 0) | (spans.first_byte[client] == 0)
    client, server = client[fits], server[fits]
    _, where, times = np.unique(client, return_inverse=True, return_counts=True)
    once = times[where] == 1
    return client[once], server[once]


def join(pool: Pool, rows: Rows) -> tuple[Rows, Rows]:
    """Make mates of the ends among `rows` (unmated first rows of records), and of what was pipelined behind them.

    A client end without payload (Flag.HEAD) becomes as many rows as the server's record, and takes over its shape,
    texts and context. Returns the client rows and the server rows, new ones included.
    """
    clients, servers = match(pool.spans, rows)
    if not len(clients):
        return clients, servers
    spans = pool.spans
    many = (pool.count[servers] > 1) | (pool.count[clients] > 1)
    if many.any():
        more = _followers(pool, clients[many], servers[many])
        clients, servers = np.concatenate([clients, more[0]]), np.concatenate([servers, more[1]])
    pool.mate[clients], pool.mate[servers] = servers, clients
    bare = (spans.flags[clients] & HEAD) != 0
    take_over(spans, clients[bare], servers[bare])
    agree(spans, clients, servers)
    return clients, servers


def agree(spans: Spans, clients: Rows, servers: Rows) -> None:
    """A request leaves before it arrives, and the last byte of a response leaves before it is received.

    Both are sent inside a system call whose end is what the kernel side sees, while the receiver may run before that:
    so the sender's time is the later one of two by a few µs, and the receiver's bounds it. A response of which the two
    ends saw different numbers of bytes (one is still to be amended) is left as it is.
    """
    whole = spans.rsp_bytes[clients] == spans.rsp_bytes[servers]
    clients, servers = clients[whole], servers[whole]
    begin = spans.start[servers]
    spans.start[clients] = np.minimum(spans.start[clients], begin)
    latest = np.maximum(spans.end[clients], begin)
    spans.end[servers] = np.minimum(spans.end[servers], latest)
    spans.first_byte[servers] = np.minimum(spans.first_byte[servers], latest)


def agree_with_released(spans: Spans, servers: Rows, clients: Released) -> None:
    """The same where the client's end has gone: only the server's end gives way, by what a system call may take."""
    begin, end = spans.start[servers], spans.end[servers]
    early, late = clients.start - begin, end - clients.end  # wrap around where they are not
    spans.start[servers] = np.where(early < CALL_NS, clients.start, begin)
    spans.end[servers] = np.where(late < CALL_NS, np.maximum(clients.end, spans.start[servers]), end)
    spans.first_byte[servers] = np.minimum(spans.first_byte[servers], spans.end[servers])


def take_over(spans: Spans, clients: Rows, servers: Rows) -> None:
    """What the bytes say, from the end that has them."""
    spans.shape[clients] = spans.shape[servers]
    # One slot after the other, and only those in use: many times faster than rows of three elements.
    for start, length in zip(spans.slot_start.T, spans.slot_length.T, strict=True):
        lengths = length[servers]
        if lengths.any():
            length[clients], start[clients] = lengths, start[servers]
    spans.request_id[clients] = spans.request_id[servers]
    # A header that was put in on the way names the client's span itself: of that it is no child.
    carried = spans.remote_parent[servers]
    carries = ((carried != 0) & (carried != spans.span_id[clients])).nonzero()[0]
    if len(carries):
        clients, servers = clients[carries], servers[carries]
        for name in ("remote_link", "remote_trace", "remote_parent", "remote_flags"):
            column = getattr(spans, name)
            column[clients] = column[servers]


def _followers(pool: Pool, clients: Rows, servers: Rows) -> tuple[Rows, Rows]:
    """The ends of the second and later exchanges of records whose first ones are joined; makes the client's rows."""
    spans = pool.spans
    bare = (spans.flags[clients] & HEAD) != 0
    grow = (bare & (pool.count[clients] == 1)).nonzero()[0]
    extra = pool.count[servers[grow]] - 1
    source = np.repeat(clients[grow], extra)
    server = np.repeat(servers[grow], extra)
    ordinal = count_up(extra)
    new = pool.duplicate(source)
    spans = pool.spans
    pool.ordinal[new] = ordinal
    spans.span_id[new] = derive(spans.span_id[source], ordinal)
    behind = np.minimum(server + ordinal, pool.size - 1)
    for name in ("req_bytes", "rsp_bytes"):
        column = getattr(spans, name)
        column[new] = column[behind]
        column[clients[grow]] = column[servers[grow]]
    count = pool.count[servers[grow]]
    pool.count[clients[grow]] = count
    pool.count[new] = np.repeat(count, extra)
    # Both ends with payload: the k-th of one is the k-th of the other.
    full = np.setdiff1d(np.arange(len(clients)), grow)
    both = np.minimum(pool.count[clients[full]], pool.count[servers[full]]) - 1
    steps = count_up(both)
    left = np.minimum(np.repeat(clients[full], both) + steps, pool.size - 1)
    right = np.minimum(np.repeat(servers[full], both) + steps, pool.size - 1)
    there = is_follower(pool, left, np.repeat(clients[full], both), steps)
    there &= is_follower(pool, right, np.repeat(servers[full], both), steps)
    kept = is_follower(pool, behind, server, ordinal)
    pool.discard(new[~kept])
    return np.concatenate([new[kept], left[there]]), np.concatenate([behind[kept], right[there]])


def is_follower(pool: Pool, rows: Rows, first: Rows, ordinal: Rows) -> NDArray[np.bool_]:
    """Whether each row still is the ordinal-th of the record that begins at `first` (some may have been released)."""
    spans = pool.spans
    same: NDArray[np.bool_] = (spans.conn[rows] == spans.conn[first]) & (spans.start[rows] == spans.start[first])
    same &= (pool.ordinal[rows] == ordinal) & (pool.state[rows] != FREE)
    return same


def count_up(lengths: NDArray[np.int32]) -> Rows:
    """1..n for each n, one after the other: [2, 3] → [1, 2, 1, 2, 3]."""
    ends = np.cumsum(lengths)
    return np.arange(1, int(ends[-1]) + 1 if len(ends) else 1) - np.repeat(ends - lengths, lengths)
