/* Units of execution: what in a process works on one thing at a time, where that is not the thread. A goroutine, a CPython
 * context, a virtual thread of a JVM, an asynchronous resource of Node: read from the process's own memory while its socket
 * call is in progress, by the layout that user space found (otel_ebpf/runtimes).
 *
 * Theory of operation. User space puts a process's layout into `runtimes` and raises the epoch; each thread looks there
 * once in an epoch, so that processes without a layout pay a comparison. A child that was forked and has not called exec
 * takes its parent's. What is read is checked; what does not look as expected is UNIT_OPAQUE, never a guess. */
#pragma once

#include "emit.h"

#define UNIT(KIND, ID) ((u64)(KIND) << 56 | ((u64)(ID) & ((1ull << 56) - 1)))

enum runtime_kind {
	RUNTIME_NONE = 0,
	RUNTIME_GO = 1,
	RUNTIME_PYTHON = 2,
	RUNTIME_NODE = 3,
	RUNTIME_JVM = 4,
};

/* Where and for whom a unit is looked up: always the current task. */
struct unit_at {
	u64 fsbase; /* its thread pointer */
	u64 regs;   /* address of its user registers, 0 where they are not to be had */
	u64 conn;   /* connection.id */
	u32 tgid;
	u32 tid;
};

#include "unit_go.h"
#include "unit_jvm.h"
#include "unit_node.h"
#include "unit_python.h"

/* The layout of one process. Owner: the process. User space writes it anew whenever it finds out more, so the kernel side
 * keeps nothing in it. */
struct runtime {
	u32 kind; /* enum runtime_kind */
	u32 unused;
	union {
		struct go_runtime go;
		struct python_runtime python;
		struct node_runtime node;
		struct jvm_runtime jvm;
	};
};

TABLE(runtimes, u32, struct runtime, 8192);
/* How often the probes in a process's own code were hit: what they cost it. Owner: the process. */
TABLE(probe_hits, u32, u64, 8192);
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} runtimes_epoch SEC(".maps");

/* Since when a request of a process is open: the sweep writes it, user space waits for as long with judging calls. */
struct open_since {
	u64 t;      /* the oldest of them */
	u64 recent; /* the oldest that is not slow (SLOW_NS); ~0: none */
	u64 seen;   /* when the sweep was here last */
};
TABLE(requests_open, u32, struct open_since, 8192);

#include "heap_jvm.h"

static __always_inline const struct runtime *find_runtime(u32 tgid)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	const struct runtime *r = bpf_map_lookup_elem(&runtimes, &tgid);

	/* Of the process: each further thread has the flag, as nothing but exec clears it. */
	if (r || !(BPF_CORE_READ(task, group_leader, flags) & PF_FORKNOEXEC))
		return r;
	u32 parent = BPF_CORE_READ(task, group_leader, real_parent, tgid);
	r = bpf_map_lookup_elem(&runtimes, &parent);
	if (r)
		bpf_map_update_elem(&runtimes, &tgid, r, BPF_NOEXIST);
	return r;
}

/* Which runtime this thread's process has: kept in the thread for an epoch. */
static __always_inline u32 runtime_of(struct thread *t)
{
	u32 zero = 0;
	u32 *epoch = bpf_map_lookup_elem(&runtimes_epoch, &zero);

	if (!epoch)
		return RUNTIME_NONE;
	if (t->epoch != *epoch) {
		t->epoch = *epoch;
		const struct runtime *r = find_runtime(bpf_get_current_pid_tgid() >> 32);
		t->runtime = r ? r->kind : RUNTIME_NONE;
	}
	return t->runtime;
}

static __always_inline void forget_runtime(u32 tgid)
{
	bpf_map_delete_elem(&runtimes, &tgid);
	bpf_map_delete_elem(&probe_hits, &tgid);
	bpf_map_delete_elem(&requests_open, &tgid);
	bpf_map_delete_elem(&jvm_jobs, &tgid);
	bpf_map_delete_elem(&jvm_givers, &tgid);
}

static __always_inline void count_hit(u32 tgid)
{
	u64 one = 1, *hits = bpf_map_lookup_elem(&probe_hits, &tgid);

	if (hits)
		__sync_fetch_and_add(hits, 1);
	else
		bpf_map_update_elem(&probe_hits, &tgid, &one, BPF_NOEXIST);
}

static __always_inline void look_at_self(struct unit_at *at)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 id = bpf_get_current_pid_tgid();

	at->fsbase = THREAD_POINTER(task);
	at->tgid = id >> 32;
	at->tid = id;
}

/* Global functions, verified once; they get numbers only, which is what older kernels can give them. Two, as the stack
 * is short where units are looked up. */
__noinline u64 goroutine_of(u64 conn, u64 regs, u32 send, u32 client)
{
	struct unit_at at = { .conn = conn, .regs = regs };

	look_at_self(&at);
	const struct runtime *r = bpf_map_lookup_elem(&runtimes, &at.tgid);
	return r && r->kind == RUNTIME_GO ? go_unit(&r->go, &at, send, client) : 0;
}

__noinline u64 unit_of(u64 conn, u64 regs)
{
	struct unit_at at = { .conn = conn, .regs = regs };

	look_at_self(&at);
	const struct runtime *r = bpf_map_lookup_elem(&runtimes, &at.tgid);
	if (!r)
		return 0;
	if (r->kind == RUNTIME_PYTHON)
		return python_unit(&r->python, &at);
	if (r->kind == RUNTIME_NODE)
		return node_unit(&r->node, &at);
	return r->kind == RUNTIME_JVM ? jvm_unit(&r->jvm, &at) : 0;
}

/* Apart, as the stack is short where units are looked up. */
__noinline int tell_origin(u64 unit)
{
	tell_lineage(bpf_get_current_pid_tgid() >> 32, unit);
	return 0;
}

/* JVM: where the thread allocates, and what it works on. */
__noinline int mark_heap(u64 conn, u32 bits)
{
	struct unit_at at = { .conn = conn };

	look_at_self(&at);
	const struct runtime *r = bpf_map_lookup_elem(&runtimes, &at.tgid);
	if (r && r->kind == RUNTIME_JVM)
		jvm_mark(&r->jvm, &at, bits);
	return 0;
}

/* JVM: a virtual thread reads the response of its call: whoever waits for it has made it. */
__noinline int ask_who_waits(u64 unit)
{
	struct unit_at at = {};

	look_at_self(&at);
	const struct runtime *r = bpf_map_lookup_elem(&runtimes, &at.tgid);
	if (r && r->kind == RUNTIME_JVM && r->jvm.virtual_class)
		jvm_tell_waiter(&r->jvm, &at, unit);
	return 0;
}

__noinline int mark_carrier(u64 conn, u32 bits, u64 unit)
{
	struct unit_at at = { .conn = conn };

	look_at_self(&at);
	const struct runtime *r = bpf_map_lookup_elem(&runtimes, &at.tgid);
	if (r && r->kind == RUNTIME_JVM)
		jvm_mark_carrier(&r->jvm, &at, bits, unit);
	return 0;
}

/* Node: a segment of its loop begins with bytes received. */
__noinline int segment_after(u64 after)
{
	struct unit_at at = {};

	look_at_self(&at);
	const struct runtime *r = bpf_map_lookup_elem(&runtimes, &at.tgid);
	if (r && r->kind == RUNTIME_NODE)
		node_segment(&r->node, &at, after);
	return 0;
}

static __always_inline u64 look_up_unit(struct thread *t, u64 conn, bool send, bool client, bool modern)
{
	u32 runtime = runtime_of(t);

	if (!runtime)
		return 0;
	if (modern) /* by way of memory: to the verifier it is a pointer until then */
		*(volatile u64 *)&t->regs = bpf_task_pt_regs(bpf_get_current_task_btf());
	u64 regs = *(volatile u64 *)&t->regs;
	u64 unit = runtime == RUNTIME_GO ? goroutine_of(conn, regs, send, client) : unit_of(conn, regs);
	/* The calls for a request and its response are what its unit's origin is asked for. */
	if (unit && send)
		tell_origin(unit);
	return unit;
}

/* Which unit moves the message in hand: looked up before anything is done with it, as the stack is too short for that
 * where it is needed; only for the first bytes of a request or response, and for frames. */
static __always_inline void meet_unit(struct thread *t, const struct conn *c, bool send, bool modern)
{
	bool of_request = send == (c->client != 0);

	t->unit = 0;
	if (c->h2.on || (of_request ? c->phase != REQUEST : c->phase == REQUEST))
		t->unit = look_up_unit(t, c->k.id, send, c->client, modern);
	else
		return;
	if (t->runtime != RUNTIME_JVM || c->h2.on)
		return;
	u32 bits = (send ? MARK_SENDS : 0) | (c->client ? MARK_CLIENT : 0);
	if (t->unit >> 56 == UNIT_VIRTUAL) {
		if (bits == MARK_CLIENT)
			ask_who_waits(t->unit);
		mark_carrier(c->k.id, bits, t->unit);
	}
	if (t->unit || bits == MARK_CLIENT)
		return;
	bool job = send && c->client && has_no_request(t);
	mark_heap(c->k.id, bits | (job ? MARK_JOB : 0));
	if (job)
		see_givers(bpf_get_current_pid_tgid() >> 32);
}

/* The thread learned of an end: what it does next is for none of those of which it received bytes before. */
static __always_inline void end_segment(struct thread *t)
{
	if (t && runtime_of(t) == RUNTIME_NODE)
		segment_after(0);
}

/* The thread received bytes: what it does next may be for that. */
static __always_inline void begin_segment(struct thread *t)
{
	if (runtime_of(t) == RUNTIME_NODE)
		segment_after(t->received);
}
