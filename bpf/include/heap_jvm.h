/* JVM: who gave a job to a thread.
 *
 * Theory of operation. A thread of HotSpot allocates in a buffer of its own (TLAB), in ascending order, and objects stay
 * where they are until the next collection. So the address of an object tells which thread made it, and between which two
 * of that thread's marks. A thread that makes a call without a request of its own works on a job that another one made for
 * it, and holds that job in the outermost frames of its stack. Which of the objects there it is, and for which request it
 * was made, user space finds out (otel_ebpf/tracing/rungs/allocation.py). */
#pragma once

#include "waits_jvm.h"

enum { STACK_WORDS = 256, OBJECT_ALIGNED = 8 };
struct stack_part {
	u64 words[STACK_WORDS];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stack_part);
} stack_parts SEC(".maps");

/* The objects in the part of the stack where its outermost frames are, those next to the base first. */
static __always_inline void find_objects(const struct jvm_runtime *r, u64 thread, struct heap_mark *m)
{
	u32 zero = 0;
	struct stack_part *part = bpf_map_lookup_elem(&stack_parts, &zero);
	u64 base = 0, last = 0, heap = r->heap, size = r->heap_end - r->heap;
	u64 from_base = r->native / sizeof(u64);

	if (!part || bpf_probe_read_user(&base, sizeof(base), (void *)(thread + r->base)) || !base)
		return;
	if (bpf_probe_read_user(part->words, sizeof(part->words), (void *)(base - r->native - sizeof(part->words))))
		return;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < STACK_WORDS; i++) {
		u64 word = part->words[STACK_WORDS - 1 - i];
		if (word - heap >= size || word & (OBJECT_ALIGNED - 1) || word == last)
			continue;
		last = word;
		/* Read back, so that to the verifier it is one number, not one for each way to get here. */
		u32 n = *(volatile unsigned short *)&m->count;
		if (n >= MARK_OBJECTS)
			return;
		m->objects[n & (MARK_OBJECTS - 1)] = (from_base + i + 1) << 48 | (word & ((1ull << 48) - 1));
		m->count = n + 1;
	}
}

/* Threads of a process that may give jobs away: that have a request open, or answer those that others read. A slot is taken
 * at the request and given back at the response, whoever writes that, or taken by another thread where all are in use; what
 * two do to one at the same time may lose a giver, and with it what decides some calls. Owner: the process. */
enum { GIVERS = 32 };
struct givers {
	u64 thread[GIVERS]; /* JavaThread *, 0: free */
	u64 start[GIVERS];  /* of the buffer in which it was seen last */
	u64 conn[GIVERS];   /* of which it read the request; 0: it answers what others read */
	u32 tid[GIVERS];
};
TABLE(jvm_givers, u32, struct givers, 1024);

static __always_inline void note_giver(const struct unit_at *at, u64 thread, u64 start, bool answers)
{
	static struct givers none;
	struct givers *g = bpf_map_lookup_elem(&jvm_givers, &at->tgid);

	if (!g) {
		bpf_map_update_elem(&jvm_givers, &at->tgid, &none, BPF_NOEXIST);
		g = bpf_map_lookup_elem(&jvm_givers, &at->tgid);
	}
	if (!g)
		return;
	u32 slot = at->tid % GIVERS; /* if none is free */
	bool read = false;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < GIVERS; i++) {
		bool own = g->thread[i] == thread, handed_over = answers && g->conn[i] == at->conn;

		read |= own && g->conn[i];
		if (own || handed_over)
			g->thread[i] = 0;
		if (!g->thread[i])
			slot = i;
	}
	if (answers && read)
		return;
	slot &= GIVERS - 1;
	g->conn[slot] = answers ? 0 : at->conn;
	g->tid[slot] = at->tid;
	g->start[slot] = start;
	g->thread[slot] = thread;
}

/* Straight into the record, as the stack is short. */
static __always_inline bool read_buffer(const struct jvm_runtime *r, u64 thread, struct heap_mark *m)
{
	return !bpf_probe_read_user(&m->start, sizeof(m->start), (void *)(thread + r->start)) &&
	       !bpf_probe_read_user(&m->top, sizeof(m->top), (void *)(thread + r->top)) &&
	       !bpf_probe_read_user(&m->end, sizeof(m->end), (void *)(thread + r->end));
}

/* A thread that handles a request may go through several buffers until it answers. It is seen in between, when one that
 * works for it makes a call: it waits then, as a rule, and has made its job not long ago. */
static __always_inline void see_giver(const struct jvm_runtime *r, u32 tgid, struct givers *g, u32 i)
{
	u64 thread = g->thread[i], start = 0;

	if (!thread || bpf_probe_read_user(&start, sizeof(start), (void *)(thread + r->start)) || start == g->start[i])
		return;
	struct heap_mark *m = bpf_ringbuf_reserve(&heap_marks, sizeof(*m), 0);
	if (!m) {
		lose(LOSS_RING_FULL_HEAP);
		return;
	}
	m->t = bpf_ktime_get_ns();
	m->conn = m->unit = 0;
	m->tgid = tgid;
	m->tid = g->tid[i];
	m->bits = MARK_CLIENT | MARK_SEEN;
	m->count = 0;
	m->collections = u32_at(r->collections);
	bool good = read_buffer(r, thread, m);
	u64 top = m->top, end = m->end;
	/* It runs meanwhile: what is read the same twice is right. */
	good = good && start == m->start && read_buffer(r, thread, m) && start == m->start && end == m->end &&
	       top <= m->top && start <= top && m->top <= end;
	m->top = top;
	if (!good || u32_at(r->collecting) & 0xff || u32_at(r->collections) != m->collections ||
	    g->thread[i] != thread) {
		bpf_ringbuf_discard(m, BPF_RB_NO_WAKEUP);
		return;
	}
	g->start[i] = start;
	bpf_ringbuf_submit(m, wakeup(&heap_marks, m->t >> 10));
}

/* A function of its own, as the stack is short where it is called. */
__noinline int see_givers(u32 tgid)
{
	const struct runtime *r = bpf_map_lookup_elem(&runtimes, &tgid);
	struct givers *g = bpf_map_lookup_elem(&jvm_givers, &tgid);

	if (!r || r->kind != RUNTIME_JVM || !g)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < GIVERS; i++)
		see_giver(&r->jvm, tgid, g, i);
	return 0;
}

/* A thread's mark without objects. Its buffer could not be read: torn. */
static __always_inline struct heap_mark *begin_mark(const struct jvm_runtime *r, const struct unit_at *at, u64 thread,
						    u64 now, u32 bits, u64 unit)
{
	struct heap_mark *m = bpf_ringbuf_reserve(&heap_marks, sizeof(*m), 0);

	if (!m) {
		lose(LOSS_RING_FULL_HEAP);
		return NULL;
	}
	m->t = now;
	m->conn = at->conn;
	m->unit = unit;
	m->start = m->top = m->end = 0;
	m->tgid = at->tgid;
	m->tid = at->tid;
	m->bits = bits;
	m->count = 0;
	m->collections = u32_at(r->collections);
	if (!read_buffer(r, thread, m))
		m->bits |= MARK_TORN;
	return m;
}

/* Threads in a system call are not stopped for a collection: what was read during one is torn. */
static __always_inline void end_mark(const struct jvm_runtime *r, struct heap_mark *m)
{
	if (u32_at(r->collecting) & 0xff || u32_at(r->collections) != m->collections)
		m->bits |= MARK_TORN;
	bpf_ringbuf_submit(m, wakeup(&heap_marks, m->t >> 10));
}

static __always_inline void jvm_mark(const struct jvm_runtime *r, const struct unit_at *at, u32 bits)
{
	u64 thread = 0;

	if (!r->heap_end || !r->slot)
		return;
	u64 now = bpf_ktime_get_ns();
	if (bits & MARK_JOB)
		note_job(at->tgid, now);
	if (!has_jobs(at->tgid, now) || bpf_probe_read_user(&thread, sizeof(thread), (void *)(at->fsbase + r->slot)) ||
	    !thread)
		return;
	struct heap_mark *m = begin_mark(r, at, thread, now, bits, 0);
	if (!m)
		return;
	if (bits & MARK_JOB)
		find_objects(r, thread, m);
	if (!(bits & MARK_CLIENT))
		note_giver(at, thread, m->start, bits & MARK_SENDS);
	end_mark(r, m);
}

/* A virtual thread moves bytes: where its carrier allocates, and, if it calls, where the thread's own object lies. */
static __always_inline void jvm_mark_carrier(const struct jvm_runtime *r, const struct unit_at *at, u32 bits, u64 unit)
{
	u64 id = (u64)at->tgid << 32 | at->tid, object = 0;
	struct java_thread *known = bpf_map_lookup_elem(&java_threads, &id);

	if (!known || !r->heap_end || !r->virtual_class)
		return;
	u64 now = bpf_ktime_get_ns();
	if (!has_jobs(at->tgid, now) || bpf_probe_read_user(&object, sizeof(object), (void *)known->handle) || !object)
		return;
	struct heap_mark *m = begin_mark(r, at, known->thread, now, bits, unit);
	if (!m)
		return;
	m->objects[0] = object;
	m->count = (bits & MARK_SENDS) && (bits & MARK_CLIENT);
	end_mark(r, m);
}
