/* The context of a request as it travels in its TCP segment, and what is remembered for that.
 *
 * RFC 6994: an experimental option says by two bytes whose it is. With timestamps (12 bytes) it fills the 40 bytes that
 * options may have:
 *
 *   kind 253 | length 28 | 'O' 'T' | trace id, 16 bytes | span id, 8 bytes
 *
 * It belongs to the request whose first byte is the first of the segment, and is sent once: a retransmission goes without,
 * so that whatever on the way does not let options pass costs a retransmission at most, and that not for long. */
#pragma once

#include "state.h"

struct context {
	u64 trace[2]; /* bytes as on the wire; all zero: not known */
	u64 span;
};

enum { OPTION_KIND = 253, OPTION_ID = 'O' | 'T' << 8 };
struct wire_option {
	u8 kind;
	u8 length;
	u16 id;
	u64 trace[2];
	u64 span;
} __attribute__((packed));

/* What was read of a request before the request itself. For user space: who called, and in which trace. */
struct arrived_context {
	unsigned long long request; /* span_id of the exchange */
	unsigned long long trace[2];
	unsigned long long span;
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
	WIRE_LOST,           /* read, and not told to user space: ring full, no memory */
	WIRE_KINDS,
};
COUNTS(wire_stats, WIRE_KINDS);

static __always_inline void count_wire(u32 what)
{
	add_to(&wire_stats, what, 1);
}

enum { ARRIVALS = 4 };
struct arrival {
	struct context context; /* span 0: free, or being written */
	u32 seq;                /* of the first byte of its segment */
};
/* One end of a connection. Born with its first context, gone with the socket. */
struct wire {
	struct context out; /* of the request that begins at out_seq; span 0: none */
	u32 out_seq;
	u32 out_n;    /* ordinal of that request on its connection, from 1 */
	u32 left_out; /* such an ordinal: it was counted that this one's did not fit */
	u32 foreign;  /* the connection speaks what is no exchange: HTTP/2 */
	u32 resent;   /* segments that the connection had sent again before this one; told: this one bears it */
	u32 told;
	u32 unlucky;  /* segments in a row that had to be sent again */
	u64 settled;  /* server: span of the request whose trace was settled last */
	u32 arrivals; /* so far */
	struct arrival in[ARRIVALS];
};
STORAGE(wires, BPF_MAP_TYPE_SK_STORAGE, struct wire);

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
/* Addresses that segments with an option do not reach. */
struct address {
	u8 bytes[16];
};
RECENT(deaf, struct address, u32, 1024);
RING(arrived_contexts, 1 << 19);

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
