/* Where units of execution came from: remembered when they are born, told to user space when one of them is met. */
#pragma once

#include "emit.h"

struct ancestry_key {
	u64 unit;
	u32 tgid;
	u32 unused;
};
struct ancestor {
	u64 parent;
	u64 born;
	u32 told;
	u32 unused;
};
/* What was used longest ago makes room: a unit whose origin is forgotten is undecided. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ancestry_key);
	__type(value, struct ancestor);
} ancestry SEC(".maps");

/* Which probes would decide what stays undecided in a process: user space attaches them, and takes the process out. */
enum probes {
	PROBES_WORK = 1 << 0,        /* who makes goroutines, and hands them work */
	PROBES_STREAMS = 1 << 1,     /* which goroutine handles which stream of HTTP/2, */
	PROBES_GRPC_SERVER = 1 << 2, /* likewise in grpc-go, */
	PROBES_GRPC_CLIENT = 1 << 3, /* and which one opens which stream there */
};
TABLE(probes_wanted, u32, u32, 1024);

static __always_inline void want_probes(u32 tgid, u32 which)
{
	u32 *wanted = bpf_map_lookup_elem(&probes_wanted, &tgid);

	if (wanted)
		*wanted |= which; /* if two do at once, the other one asks again */
	else
		bpf_map_update_elem(&probes_wanted, &tgid, &which, BPF_ANY);
}

enum { GENERATIONS = 12 };

/* A unit and the one that made it. The first word holds. */
static __always_inline void note_lineage(u32 tgid, u64 unit, u64 parent)
{
	struct ancestry_key key = { .unit = unit, .tgid = tgid };
	struct ancestor a = { .parent = parent, .born = bpf_ktime_get_ns() };

	/* -EEXIST: it was known */
	long failed = bpf_map_update_elem(&ancestry, &key, &a, BPF_NOEXIST);
	if (failed && failed != -EEXIST)
		lose(LOSS_NO_ANCESTRY);
}

/* Written where it is sent from: the stack is short here. */
static __always_inline void tell_lineage(u32 tgid, u64 unit)
{
	struct ancestry_key key = { .unit = unit, .tgid = tgid };

	for (int i = 0; i < GENERATIONS; i++) {
		struct ancestor *a = bpf_map_lookup_elem(&ancestry, &key);
		if (!a || a->told)
			return;
		struct lineage *l = bpf_ringbuf_reserve(&lineages, sizeof(*l), 0);
		if (!l) {
			lose(LOSS_RING_FULL_LINEAGE);
			return;
		}
		l->unit = key.unit;
		l->parent = a->parent;
		l->t = a->born;
		l->tgid = tgid;
		l->kind = key.unit >> 56;
		key.unit = a->parent;
		a->told = 1;
		bpf_ringbuf_submit(l, wakeup(&lineages, a->born >> 10));
	}
}
