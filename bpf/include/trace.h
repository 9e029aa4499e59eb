/* Of which request a call is told, and in which trace: what all ways to tell it share.
 *
 * Theory of operation. What is sent must be what user space will say when the request is over, and that is known for
 * certain only then. So the kernel tells only what cannot come out otherwise:
 *
 *   the span     is the kernel's own number for the exchange
 *   the trace    of a call: that of the one request that the thread has open, in a process of which user space has seen
 *                that this is always the cause; of a process that receives no requests: its own, of the span
 *   the trace    of a request: what its sender on this host has sent; else what came with it; else the one that follows
 *                from its key, as in user space */
#pragma once

#include "state.h"

struct context {
	u64 trace[2]; /* bytes as on the wire; all zero: not known */
	u64 span;
};

enum wire_stat {
	WIRE_WRITTEN,        /* requests that bear their context */
	WIRE_READ,           /* requests that came with one */
	WIRE_TOO_LONG,       /* left out: the request's first segment is full */
	WIRE_NO_ROOM,        /* left out: other options (SACK) take the room */
	WIRE_MID_SEGMENT,    /* left out: the request began in the middle of a segment */
	WIRE_DEAF,           /* left out: what bears an option does not get there */
	WIRE_CAUSE_UNKNOWN,  /* not told: the thread has no request open, or several */
	WIRE_NOT_PROVEN,     /* not told: the process has not shown that its threads tell the cause */
	WIRE_TRACE_UNKNOWN,  /* not told: the trace of the request that is the cause is not known when it calls */
	WIRE_NOT_RECOGNISED, /* not told: a client's first bytes that are no HTTP/1 request */
	WIRE_DISBELIEVED,    /* not read: of a sender that is not trusted */
	WIRE_LOST,           /* could not be noted: ring or table full, no memory */
	WIRE_UNWATCHED,      /* left alone: on a connection that is not, or no more, looked at */
	WIRE_UNCERTAIN,      /* left alone: that these bytes are one request's head, and all of it, is not certain */
	WIRE_OWN_CONTEXT,    /* left alone: it bears a context of its own */
	WIRE_QUEUED,         /* left alone: the head might not have left in one piece */
	WIRE_KINDS,
};
COUNTS(wire_stats, WIRE_KINDS);

static __always_inline void count_wire(u32 what)
{
	add_to(&wire_stats, what, 1);
}

struct trace {
	u64 id[2];
};
/* In which trace a request is that was received here, by its span. What is forgotten is not told: a gap, no lie. */
RECENT(request_traces, u64, struct trace, 16384);
/* In which trace a request is that was sent here, or zero for not known, by where on which connection it begins: for the
 * other end, if that is on this host. */
RECENT(sent_traces, u64, struct trace, 16384);
/* Processes that have received requests; user space removes those that ended. */
TABLE(receivers, u32, u32, 65536);
/* Processes of which user space has seen that the kernel knows their causes. */
TABLE(proven, u32, u32, 65536);
#define GOLDEN 0x9e3779b97f4a7c15ull
static __always_inline u64 splitmix64(u64 state)
{
	return mix64(state + GOLDEN);
}

static __always_inline u64 at_least_one(u64 n)
{
	return n ? n : 1;
}

/* As `traces_of` of otel_ebpf/tracing/ids.py. */
static __always_inline struct trace trace_of(u64 key)
{
	struct trace t = { { at_least_one(splitmix64(key ^ GOLDEN)),
			     at_least_one(splitmix64(key ^ 0xbf58476d1ce4e5b9ull)) } };

	return t;
}

/* As `exchange_keys` of otel_ebpf/tracing/keys.py, of the first exchange of a record; 0: cannot be told. */
static __always_inline u64 exchange_key(u64 connection, u32 seq)
{
	if (!connection || !seq)
		return 0;
	return at_least_one(splitmix64(connection * 0xe7037ed1a0b428dbull + seq * 0xa0761d6478bd642full));
}

static __always_inline u64 place_of(u64 key, u32 seq)
{
	return mix64(key + seq * GOLDEN);
}

/* For the other end, if it is on this host. */
static __always_inline void note_sent(u64 key, u32 seq, const struct trace *t)
{
	u64 place = place_of(key, seq);

	bpf_map_update_elem(&sent_traces, &place, t, BPF_ANY);
}

/* The trace of a call that this thread makes, an HTTP request or another. WIRE_KINDS: it is known; else why it is not. */
static __always_inline u32 settle_call(struct thread *thread, u64 span, bool http, struct trace *t)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32, doubts = 0;
	u64 cause = thread ? only_request(thread, &doubts) : 0;

	if (!bpf_map_lookup_elem(&receivers, &tgid)) {
		/* A process with an SDK may tell of its other calls itself, under other ids. */
		if (cause || doubts || !http)
			return WIRE_NOT_RECOGNISED;
		*t = trace_of(span);
		return WIRE_KINDS;
	}
	if (!cause || doubts)
		return WIRE_CAUSE_UNKNOWN;
	if (!bpf_map_lookup_elem(&proven, &tgid))
		return WIRE_NOT_PROVEN;
	struct trace *of = bpf_map_lookup_elem(&request_traces, &cause);
	if (!of || !of->id[0])
		return WIRE_TRACE_UNKNOWN;
	*t = *of;
	return WIRE_KINDS;
}

/* RFC 1918, RFC 4193, link-local, loopback: as `is_private` of otel_ebpf/tracing/trust.py. */
static __always_inline bool is_private(const u8 a[16])
{
	u64 high = *(u64 *)a, low = *(u64 *)(a + 8);

	if (!high && (u32)low == 0xffff0000u) {
		u8 one = a[12], two = a[13];
		return one == 10 || one == 127 || (one == 192 && two == 168) || (one == 172 && two >> 4 == 1) ||
		       (one == 169 && two == 254);
	}
	return (!high && low == 1ull << 56) || (a[0] & 0xfe) == 0xfc || (a[0] == 0xfe && a[1] >> 6 == 2);
}

static __always_inline bool is_trusted(const struct conn *c)
{
	return config.trust == TRUST_ALL || (config.trust == TRUST_PRIVATE && is_private(c->k.remote));
}

/* The first letters of all names under which tracers send contexts (otel_ebpf/protocols/headers.py). More than those begin
 * so: then nothing is told, which is no harm. */
static __always_inline bool may_be_context(u32 name)
{
	name |= 0x20202020;
	return name == 0x63617274 /* trac */ || (name & 0xffffff) == 0x2d3362 /* b3 and - */ ||
	       (name & 0xffff) == 0x3362 /* b3 */ || name == 0x33622d78 /* x-b3 */ || name == 0x72656275 /* uber */ ||
	       (name & 0xffffff) == 0x387773 /* sw8 */ || name == 0x61642d78 /* x-da */ ||
	       name == 0x6d612d78 /* x-am */;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(after_exit)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 tgid = id >> 32;

	/* Other threads may go on: that they receive requests is for user space to forget. */
	if (tgid == (u32)id)
		bpf_map_delete_elem(&proven, &tgid);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(after_exec)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;

	bpf_map_delete_elem(&receivers, &tgid);
	bpf_map_delete_elem(&proven, &tgid);
	return 0;
}
