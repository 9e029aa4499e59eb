/* Node: asynchronous ids.
 *
 * Each event loop has three doubles in its process's memory (otel_ebpf/runtimes/node.py finds them): the id of the
 * resource whose callback runs, the id of the resource that caused it, and the id that was given last. What runs belongs
 * to what happened when that id was given: so each receive begins a segment of ids. */
#pragma once

#include "lineage.h"

enum { NODE_LOOPS = 16 };
struct node_runtime {
	u64 ids[NODE_LOOPS];  /* where the ids of the thread lie that has the same index in `tids` */
	u32 tids[NODE_LOOPS]; /* 0: no more of them */
};

struct node_ids {
	u64 execution;
	u64 trigger;
	u64 counter;
};

enum {
	NODE_ID_BITS = 28,
	NODE_ID_OLD = 1 << 27, /* so much older than the counter: nobody asks what happened when it was given */
	DOUBLE_FRACTION = 52,  /* IEEE 754: bits of the fraction, then 11 of the exponent, then the sign */
	DOUBLE_BIAS = 1023,
};

/* The bits of a double that is a whole number from 0 to 2^53 as that number; false if it is none. There is no arithmetic
 * with doubles in BPF. */
static __always_inline bool whole_number(u64 *number)
{
	u64 bits = *number, exponent = bits >> DOUBLE_FRACTION;

	if (!bits)
		return true;
	if (exponent < DOUBLE_BIAS || exponent > DOUBLE_BIAS + DOUBLE_FRACTION) /* the sign makes it larger */
		return false;
	u64 shift = DOUBLE_FRACTION - (exponent - DOUBLE_BIAS);
	u64 value = (bits & ((1ull << DOUBLE_FRACTION) - 1)) | 1ull << DOUBLE_FRACTION;
	if (value & ((1ull << shift) - 1))
		return false;
	*number = value >> shift;
	return true;
}

static __always_inline bool read_node_ids(struct node_ids *ids, const struct node_runtime *r, u32 tid)
{
	u64 from = 0;

	for (int i = 0; i < NODE_LOOPS; i++)
		if (r->tids[i] == tid)
			from = r->ids[i];
	if (!from || bpf_probe_read_user(ids, sizeof(*ids), (void *)from))
		return false;
	if (!whole_number(&ids->execution) || !whole_number(&ids->trigger) || !whole_number(&ids->counter))
		return false;
	return ids->execution <= ids->counter && ids->trigger <= ids->counter;
}

static __always_inline u64 recent_id(u64 id, u64 counter)
{
	return counter - id < NODE_ID_OLD ? id & ((1 << NODE_ID_BITS) - 1) : 0;
}

/* A thread whose ids are not known, or do not look like ids, runs something of which nothing is known: as one that runs
 * outside of callbacks, in which both are 0. */
static __always_inline u64 node_unit(const struct node_runtime *r, const struct unit_at *at)
{
	struct node_ids ids;

	if (!read_node_ids(&ids, r, at->tid))
		return UNIT(UNIT_ASYNC, 0);
	return UNIT(UNIT_ASYNC,
		    recent_id(ids.execution, ids.counter) << NODE_ID_BITS | recent_id(ids.trigger, ids.counter));
}

/* Bytes of the exchange `after` were received: ids that are given from now on are given for that. */
static __always_inline void node_segment(const struct node_runtime *r, const struct unit_at *at, u64 after)
{
	struct segment s = { .after = after, .tgid = at->tgid, .tid = at->tid };
	struct node_ids ids;

	if (!read_node_ids(&ids, r, at->tid))
		return;
	s.first_id = ids.counter + 1;
	s.t = bpf_ktime_get_ns();
	if (bpf_ringbuf_output(&segments, &s, sizeof(s), wakeup(&segments, s.t >> 10)))
		lose(LOSS_RING_FULL_SEGMENT);
}
