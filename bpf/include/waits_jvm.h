/* JVM: who waits for what a virtual thread does.
 *
 * Theory of operation. A virtual thread that was made for a job holds that job: a future, in which whoever waits for its
 * result has put itself down; the thread itself has a latch for those that join it, and, if it belongs to a scope, the
 * scope has an owner. While the response of a call is read whoever asked for the call waits, as a rule. So fields of
 * classes that user space knows (otel_ebpf/runtimes/jvm_waits.py) are followed from the thread's object, and from nothing
 * else: an object of another class ends the way. Where that leads to one other virtual thread, it is this one's origin;
 * where it leads to several, none of them is. */
#pragma once

#include "unit_jvm.h"

enum { WAIT_OBJECTS = 16, WAIT_THREAD = 1 };
struct wait_walk {
	u64 objects[WAIT_OBJECTS]; /* WAIT_THREAD is set in those that must be threads */
	u64 waits;                 /* number of the thread that was found */
	u32 count;
	u32 unclear;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct wait_walk);
} wait_walks SEC(".maps");

static __always_inline u32 u32_at(u64 address)
{
	u32 word = ~0u;

	bpf_probe_read_user(&word, sizeof(word), (void *)address);
	return word;
}

/* field: offset, and WAIT_THREAD. */
static __always_inline void wait_follow(const struct jvm_runtime *r, struct wait_walk *w, u64 object, u32 field)
{
	u64 to = 0;
	u32 narrow = 0;
	u64 at = object + (field & ~WAIT_THREAD);

	if (!field)
		return;
	if (r->narrow) {
		if (bpf_probe_read_user(&narrow, sizeof(narrow), (void *)at) || !narrow)
			return;
		to = r->objects + ((u64)narrow << (r->shift & 7));
	} else if (bpf_probe_read_user(&to, sizeof(to), (void *)at) || !to) {
		return;
	}
	/* Read back, so that to the verifier it is one number, not one for each way to get here. */
	u32 n = *(volatile u32 *)&w->count;
	if (n >= WAIT_OBJECTS) {
		w->unclear = 1;
		return;
	}
	w->objects[n & (WAIT_OBJECTS - 1)] = (to & ~7ull) | (field & WAIT_THREAD);
	w->count = n + 1;
}

static __always_inline void wait_step(const struct jvm_runtime *r, struct wait_walk *w, u64 object, u64 self)
{
	u64 at = object & ~7ull;
	u32 class = u32_at(at + r->class_word), fields = 0;
	struct java_object thread = {};

	if (class == r->virtual_class) {
		if (!read_java_object(&thread, at, r->eetop) || thread.eetop || !thread.number ||
		    thread.number >= JAVA_NUMBERS)
			w->unclear = 1;
		else if (thread.number == self)
			return;
		else if (w->waits && w->waits != thread.number)
			w->unclear = 1;
		else
			w->waits = thread.number;
		return;
	}
	if (object & WAIT_THREAD) { /* of the platform's: nobody that a unit could come from */
		w->unclear = 1;
		return;
	}
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < WAIT_CLASSES; i++)
		if (r->classes[i] == class)
			fields = r->fields[i];
	wait_follow(r, w, at, fields & 0xffff);
	wait_follow(r, w, at, fields >> 16);
}

/* The number of the one virtual thread that waits for the one with this object and number; 0: there is none, ~0: it is not
 * clear which. */
static __always_inline u64 who_waits(const struct jvm_runtime *r, u64 object, u64 self)
{
	u32 zero = 0;
	struct wait_walk *w = bpf_map_lookup_elem(&wait_walks, &zero);

	if (!w)
		return 0;
	w->waits = 0;
	w->count = w->unclear = 0;
	u32 collections = u32_at(r->collections);
	if (u32_at(object + r->class_word) != r->virtual_class)
		return 0;
	for (u32 i = 0; i < WAIT_STARTS; i++)
		wait_follow(r, w, object, r->starts[i]);
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < WAIT_OBJECTS; i++) {
		if (i >= *(volatile u32 *)&w->count)
			break;
		wait_step(r, w, w->objects[i], self);
	}
	/* Threads in a system call are not stopped for a collection. */
	if (u32_at(r->collecting) & 0xff || u32_at(r->collections) != collections)
		return 0;
	return w->unclear ? ~0ull : w->waits;
}

/* The first word holds, unless another one is heard: then nothing does, which is told as the origin 0. */
static __always_inline void jvm_tell_waiter(const struct jvm_runtime *r, const struct unit_at *at, u64 unit)
{
	u64 id = (u64)at->tgid << 32 | at->tid, object = 0, self = unit & ((1ull << 56) - 1);
	struct java_thread *known = bpf_map_lookup_elem(&java_threads, &id);
	struct ancestry_key key = { .unit = unit, .tgid = at->tgid };

	if (!known || bpf_probe_read_user(&object, sizeof(object), (void *)known->handle) || !object)
		return;
	u64 waits = who_waits(r, object, self);
	if (!waits)
		return;
	note_job(at->tgid, bpf_ktime_get_ns());
	u64 parent = waits == ~0ull ? 0 : UNIT(UNIT_VIRTUAL, waits);
	struct ancestor *before = bpf_map_lookup_elem(&ancestry, &key);
	if (!before) {
		note_lineage(at->tgid, unit, parent);
	} else if (before->parent != parent) {
		before->parent = 0;
		before->told = 0;
	}
	tell_lineage(at->tgid, unit);
}
