/* JVM: virtual threads.
 *
 * Theory of operation. A thread of the VM keeps its JavaThread in a slot of its own memory. That has a handle to the
 * java.lang.Thread that runs on it: its own, whose `eetop` leads back to the JavaThread, or a virtual one, whose `eetop`
 * is 0. After `eetop` lies the number of the thread, which no other ever has. Objects move; a copy that was left behind
 * has the same number until something else lies there, which one of these words then shows. */
#pragma once

#include "lineage.h"

enum { WAIT_CLASSES = 16, WAIT_STARTS = 3 };

/* Filled by otel_ebpf/runtimes/jvm.py. Offsets. */
struct jvm_runtime {
	s32 slot;    /* from the thread pointer, of the JavaThread; 0: not known */
	u32 vthread; /* in a JavaThread: the handle of the thread that runs; 0: it has no virtual threads */
	u32 own;     /* in a JavaThread: the handle of its own thread object */
	u32 eetop;   /* in a java.lang.Thread; its number follows */
	u32 owner;   /* in a JavaThread: the number of the thread that runs (JDK 24 and newer); 0: not there */
	/* For heap_jvm.h, all 0 where it is not to be read: */
	u32 start;  /* in a JavaThread: its allocation buffer, */
	u32 top;    /* where the next object will lie, */
	u32 end;    /* and the buffer's end */
	u32 base;   /* in a JavaThread: base of its stack */
	u32 native; /* bytes below the base in which no thread has an object */
	u64 heap;   /* first address */
	u64 heap_end;
	u64 collections; /* address of their number, a u32 */
	u64 collecting;  /* address of the flag that one is going on */
	/* For waits_jvm.h, all 0 where it is not to be read: */
	u64 objects;             /* pointers to objects count from here, */
	u32 shift;               /* in units of 1 << shift bytes, */
	u32 narrow;              /* if they are words of 32 bits */
	u32 class_word;          /* in an object: 32 bits that tell its class */
	u32 virtual_class;       /* of java.lang.VirtualThread */
	u32 starts[WAIT_STARTS]; /* its fields that are followed */
	u32 unused;
	u32 classes[WAIT_CLASSES]; /* that are passed, */
	u32 fields[WAIT_CLASSES];  /* and which of their fields are followed: two halves, 1: it leads to a thread */
};

/* When a thread of the process last worked on a job that another one gave it. In a map of its own: what is above is filled
 * anew whenever user space finds more of it. Owner: the process. */
TABLE(jvm_jobs, u32, u64, 1024);
/* For as long after a job the process is one in which there are jobs. */
#define JOBS_NS 60000000000ull

static __always_inline void note_job(u32 tgid, u64 now)
{
	u64 *last = bpf_map_lookup_elem(&jvm_jobs, &tgid);

	if (last)
		*last = now;
	else
		bpf_map_update_elem(&jvm_jobs, &tgid, &now, BPF_ANY);
}

/* Another CPU may have noted one after `now`. */
static __always_inline bool has_jobs(u32 tgid, u64 now)
{
	const u64 *last = bpf_map_lookup_elem(&jvm_jobs, &tgid);

	return last && now < *last + JOBS_NS;
}

struct java_thread {
	u64 thread; /* JavaThread * */
	u64 handle; /* where it says what runs on it */
	u64 own;    /* where it says what its own thread object is */
	u64 self;   /* what both say when its own thread runs */
};
/* By thread. What was used longest ago makes room, and is read anew when it is met. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct java_thread);
} java_threads SEC(".maps");

#define JAVA_NUMBERS (1ull << 48)

/* Of ZGC: the lower bits are its colour, and say how many there are (zAddress.hpp; one of 12…15 is set). */
static __always_inline u64 without_colour(u64 object)
{
	if (!(object >> 48))
		return object;
#if defined(__TARGET_ARCH_x86)
	return object >> (object & 1 << 15 ? 16 : object & 1 << 14 ? 15 : object & 1 << 13 ? 14 : 13);
#else
	return object >> 16;
#endif
}

/* Virtual threads run on the threads of a pool whose names begin so (java.lang.VirtualThread, CarrierThread). */
static __always_inline bool named_as_carrier(void)
{
	const char prefix[] = "ForkJoinPool-";
	char comm[16] = {};

	bpf_get_current_comm(comm, sizeof(comm));
	for (u32 i = 0; i < sizeof(prefix) - 1; i++)
		if (comm[i] != prefix[i])
			return false;
	return true;
}

static __always_inline struct java_thread *java_thread_of(const struct jvm_runtime *r, u64 id, u64 thread)
{
	struct java_thread *known = bpf_map_lookup_elem(&java_threads, &id);
	struct java_thread fresh = { .thread = thread };

	if (known && known->thread == thread)
		return known;
	if (bpf_probe_read_user(&fresh.handle, sizeof(fresh.handle), (void *)(thread + r->vthread)) || !fresh.handle ||
	    bpf_probe_read_user(&fresh.own, sizeof(fresh.own), (void *)(thread + r->own)) || !fresh.own)
		return 0;
	bpf_map_update_elem(&java_threads, &id, &fresh, BPF_ANY);
	return bpf_map_lookup_elem(&java_threads, &id);
}

struct java_object {
	u64 eetop;
	u64 number;
};

/* ZGC until JDK 23 maps its heap once for each colour, a bit of the address, and an object's page may be there in one of
 * them only (zGlobals_x86.cpp: from bit 42 on, below 16 TB of heap). */
enum { VIEWS_BIT = 42, VIEWS = 4 };
static __always_inline bool read_java_object(struct java_object *object, u64 at, u32 eetop)
{
	if (!bpf_probe_read_user(object, sizeof(*object), (void *)(at + eetop)))
		return true;
	u64 view = at >> VIEWS_BIT;
	if (!view || view >= 1 << VIEWS || view & (view - 1))
		return false;
	at &= (1ull << VIEWS_BIT) - 1;
	for (u32 i = 0; i < VIEWS; i++)
		if (!bpf_probe_read_user(object, sizeof(*object), (void *)((at | 1ull << (VIEWS_BIT + i)) + eetop)))
			return true;
	return false;
}

static __always_inline u64 jvm_unit(const struct jvm_runtime *r, const struct unit_at *at)
{
	struct java_object object = {};
	u64 thread = 0, runs = 0, own = 0, number = 0;

	if (!r->vthread) /* its threads are the units */
		return 0;
	if (!r->slot)
		return named_as_carrier() ? UNIT(UNIT_OPAQUE, 0) : 0;
	if (bpf_probe_read_user(&thread, sizeof(thread), (void *)(at->fsbase + r->slot)))
		return UNIT(UNIT_OPAQUE, 0);
	if (!thread) /* not of the VM */
		return 0;
	struct java_thread *known = java_thread_of(r, (u64)at->tgid << 32 | at->tid, thread);
	if (!known || bpf_probe_read_user(&runs, sizeof(runs), (void *)known->handle) || !runs)
		return UNIT(UNIT_OPAQUE, 0);
	if (runs == known->self)
		return 0;
	/* The object may have moved, and what both handles lead to may be something else by now; they agree all the same. */
	if (!bpf_probe_read_user(&own, sizeof(own), (void *)known->own) && own == runs) {
		known->self = runs;
		return 0;
	}
	if (read_java_object(&object, without_colour(runs), r->eetop)) {
		if (object.eetop == thread) {
			known->self = runs;
			return 0;
		}
		if (!object.eetop && object.number && object.number < JAVA_NUMBERS)
			return UNIT(UNIT_VIRTUAL, object.number);
	}
	if (r->owner && !bpf_probe_read_user(&number, sizeof(number), (void *)(thread + r->owner)) && number &&
	    number < JAVA_NUMBERS)
		return UNIT(UNIT_VIRTUAL, number);
	return UNIT(UNIT_OPAQUE, 0);
}
