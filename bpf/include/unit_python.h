/* CPython: contexts (PEP 567) and greenlets.
 *
 * Theory of operation. A thread's PyThreadState lies in the slot of a POSIX key; that its thread_id is our thread pointer
 * proves it. Its current context tells which task runs, if it was entered by Context.run: each asyncio task, callback and
 * `to_thread` call has one. A context that nobody entered is just where a thread (or greenlet) keeps its variables, and
 * says no more than the thread. The address of a context is used again at once, so its name here is the moment of its
 * birth, which the probes of python.bpf.c see; one that is older than the probes is named when it is first met.
 *
 * Greenlets share a thread. Their library keeps the one that runs in a thread-local variable, and the main one, which is
 * the thread itself; they are named by birth as contexts are. Of releases that keep it elsewhere the stacks tell: what
 * lies at the bottom (3.11: the first chunk, which a thread never gives up; before: the first frame) is a greenlet's own,
 * and a thread that has shown one stack only is a plain thread. */
#pragma once

#include "lineage.h"

/* Filled by otel_ebpf/runtimes/python.py. */
struct python_runtime {
	u64 type;       /* address of PyContext_Type */
	u32 tss_table;  /* musl: offset in the thread of the pointer to its slots; 0: they lie in the thread itself */
	u32 tss;        /* offset of the slot */
	u32 thread_id;  /* offsets in PyThreadState: pthread_self() */
	u32 context;    /* the current context */
	u32 stack;      /* topmost chunk of the data stack, or topmost frame */
	u32 stack_back; /* in that: the one below */
	u32 births;     /* the probes see all contexts that are made */
	u32 greenlets;  /* enum greenlets */
	u32 tls_block;  /* offset in the thread's vector of the library's thread-local block */
	u32 tls_state;  /* offset in that of the pointer to its state */
	u64 greenlet_type; /* address of PyGreenlet_Type */
	u32 epoch;         /* differs between processes that had the same id */
};

enum greenlets { NO_GREENLETS = 0, BY_STACK = 1, BY_OBJECT = 2 };

struct python_context {
	u64 references;
	u64 type;
	u64 previous;
	u64 variables;
	u64 weak_references;
	u32 entered;
	u32 unused;
};

struct object_key {
	u64 object;
	u32 tgid;
	u32 epoch;
};
/* Names of contexts and greenlets. What was used longest ago makes room: it gets another name then, and is undecided. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct object_key);
	__type(value, u64);
} python_objects SEC(".maps");

/* The first stack that a thread showed, and whether it showed another since. */
struct stack_seen {
	u64 thread; /* PyThreadState */
	u64 root;
	u64 others;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, u64);
	__type(value, struct stack_seen);
} stacks SEC(".maps");

static __always_inline u64 user_word(u64 at)
{
	u64 word = 0;

	bpf_probe_read_user(&word, sizeof(word), (void *)at);
	return word;
}

/* A name that no other object of the process has: when, in 4 ns, and on which CPU it was given. */
static __always_inline u64 new_unit(u32 kind)
{
	u64 name = bpf_ktime_get_ns() >> 2 << 6 | (bpf_get_smp_processor_id() & 63);

	return UNIT(kind, name);
}

static __always_inline u64 object_unit(const struct python_runtime *r, u32 tgid, u64 object, u32 kind)
{
	struct object_key key = { object, tgid, r->epoch };
	u64 *known, fresh;

	if (!r->births)
		return UNIT(UNIT_OPAQUE, 0);
	known = bpf_map_lookup_elem(&python_objects, &key);
	if (known && *known >> 56 == kind)
		return *known;
	fresh = new_unit(kind); /* older than the probes; or another object was there when they came */
	if (bpf_map_update_elem(&python_objects, &key, &fresh, known ? BPF_EXIST : BPF_NOEXIST)) {
		known = bpf_map_lookup_elem(&python_objects, &key); /* another thread was quicker */
		return known && *known >> 56 == kind ? *known : UNIT(UNIT_OPAQUE, 0);
	}
	return fresh;
}

enum { PYTHON_DEPTH = 256 };
/* The bottom of the current stack, 0 if it cannot be found. */
static __always_inline u64 stack_root(const struct python_runtime *r, u64 thread)
{
	u64 at = user_word(thread + r->stack);

	if (!at)
		return 0;
	for (int i = 0; i < PYTHON_DEPTH; i++) {
		u64 below = 0;
		if (bpf_probe_read_user(&below, sizeof(below), (void *)(at + r->stack_back)))
			return 0;
		if (!below)
			return at;
		at = below;
	}
	return 0;
}

static __always_inline u64 greenlet_by_stack(const struct python_runtime *r, const struct unit_at *at, u64 thread)
{
	u64 id = (u64)at->tgid << 32 | at->tid;
	u64 root = stack_root(r, thread);
	struct stack_seen first = { thread, root }, *seen;

	if (!root)
		return UNIT(UNIT_OPAQUE, 0);
	seen = bpf_map_lookup_elem(&stacks, &id);
	if (!seen || seen->thread != thread) {
		bpf_map_update_elem(&stacks, &id, &first, BPF_ANY);
		return 0;
	}
	if (seen->root != root)
		seen->others = 1;
	return seen->others ? UNIT(UNIT_GREENLET, root) : 0;
}

struct greenlet_state {
	u64 main;
	u64 current;
};
enum { DTV = 8 }; /* thread pointer + 8: the vector of thread-local blocks */
static __always_inline u64 greenlet_by_object(const struct python_runtime *r, const struct unit_at *at)
{
	struct greenlet_state state;
	u64 block = user_word(user_word(at->fsbase + DTV) + r->tls_block), state_at;

	if (!block || block == ~0ull) /* the thread has none of the library's variables */
		return 0;
	state_at = user_word(block + r->tls_state);
	if (state_at <= 1) /* no greenlet has run in it, or it ends */
		return 0;
	if (bpf_probe_read_user(&state, sizeof(state), (void *)state_at) ||
	    user_word(state.main + 8) != r->greenlet_type)
		return UNIT(UNIT_OPAQUE, 0);
	return state.current == state.main ? 0 : object_unit(r, at->tgid, state.current, UNIT_GREENLET);
}

static __always_inline u64 python_unit(const struct python_runtime *r, const struct unit_at *at)
{
	struct python_context context;
	u64 slots = r->tss_table ? user_word(at->fsbase + r->tss_table) : at->fsbase;
	u64 thread = slots ? user_word(slots + r->tss) : 0;

	if (!thread) /* a thread that Python knows nothing of */
		return 0;
	if (user_word(thread + r->thread_id) != at->fsbase)
		return UNIT(UNIT_OPAQUE, 0);
	u64 current = user_word(thread + r->context);
	if (current) {
		if (bpf_probe_read_user(&context, sizeof(context), (void *)current) || context.type != r->type)
			return UNIT(UNIT_OPAQUE, 0);
		if (context.entered)
			return object_unit(r, at->tgid, current, UNIT_CONTEXT);
	}
	if (r->greenlets == BY_OBJECT)
		return greenlet_by_object(r, at);
	return r->greenlets == BY_STACK ? greenlet_by_stack(r, at, thread) : 0;
}
