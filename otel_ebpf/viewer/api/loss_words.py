"""What a loss means for the picture, and what to do, for somebody who does not know the agent from inside."""

from __future__ import annotations

_BUSY = "requests are missing while the host was busy: give the agent more CPU, or exclude what need not be seen"
_MANY = "more at once than the agent keeps: details are left out, nothing else"
_UNTOLD = "requests whose content the agent could not read"
_STREAMS = "requests over HTTP/2 are missing, or lack what they said"
_WORDS = {
    "ring_full_exchange": _BUSY,
    "ring_full_connection": "connections that the agent did not hear of: their requests lack addresses or are missing",
    "ring_full_process": "processes that the agent heard of late: their first requests may lack a service's name",
    "no_state": f"connections that are not followed: {_MANY}",
    "no_payload_state": _UNTOLD,
    "payload_fault": _UNTOLD,
    "peer_table_full": "some peers stand in the picture by their address instead of their name",
    "ring_full_frame": "HTTP/2 requests are missing or incomplete while the host was busy: give the agent more CPU",
    "frame_sync": "requests on some HTTP/2 connections are missing, since their bytes could not be followed",
    "tls_unbound": "encrypted requests whose connection is not known are missing",
    "tls_state_full": "encrypted requests on too many connections at once are missing",
    "no_thread_state": "requests may stand in traces of their own instead of those of their callers",
    "query_table_full": "DNS lookups are missing",
    "unknown_connection": "requests on connections that began before the agent did, or that it missed, are missing",
    "pipeline_cut": "requests sent in one go were more than the agent captures: the last of them are missing",
    "pipeline_given_up": "requests sent in one go could not be matched with their answers and are missing",
    "no_request_bytes": _UNTOLD,
    "frames_missing": _STREAMS,
    "header_block": _STREAMS,
    "no_method": _STREAMS,
    "stream_not_followed": _STREAMS,
    "too_many_streams": _STREAMS,
    "too_many_connections": _STREAMS,
    "other_end_missing": "requests stand in traces of their own, since the other end of their connection was not seen",
    "late_amendment": "responses that went on after a pause (streams) are shown shorter than they were",
    "held_too_many": "requests may stand in traces of their own: more waited for their callers than the agent keeps",
    "slow_reader": "lines are missing on the agent's terminal or pipe, not here",
    "queue_full": "data were not sent in time: this viewer, or the network to it, is too slow or was away",
    "too_many_series": "metrics: rare combinations of attributes are counted together",
    "too_many_edges": "metrics: calls between some services are not counted",
    "server_end_late": "metrics: some calls are counted without the server's duration",
    "waiting_too_many": "metrics: some calls are counted without their other end",
    "too_many_addresses": "some peers stand in the picture by their address instead of their name",
    "too_many_ended": "late requests of processes that ended may lack their service's name",
    "too_many": "more processes at once than the agent keeps: some requests may stand in traces of their own",
    "too_many_server_names": "some peers stand in the picture by their address instead of their name",
    "not_a_server_name": "some peers stand in the picture by their address instead of their name",
}


def said(reason: str) -> str:
    """A sentence about a reason of `otel_ebpf.losses`; "" for one that is not known: it has to speak for itself.

    >>> said("query_table_full"), said("queue is full")
    ('DNS lookups are missing', '')
    """
    return _WORDS.get(
        reason, "too many of these: some attributes are left out" if reason.startswith("too_many") else ""
    )
