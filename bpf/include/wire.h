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

#include "trace.h"

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

/* Addresses that segments with an option do not reach. */
struct address {
	u8 bytes[16];
};
RECENT(deaf, struct address, u32, 1024);
RING(arrived_contexts, 1 << 19);
