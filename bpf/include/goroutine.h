/* Goroutines: whose work each of them does.
 *
 * Theory of operation. A goroutine that receives a request, or writes the response of one, is a *root*: it is its own unit,
 * a new one with each request that it receives, UNIT(UNIT_GOROUTINE, goid << 16 | requests so far). Others work for the unit
 * that they descend from:
 *   - what was born of a root, or of one who works for it, works for that unit. Births are told by a probe (golang.bpf.c);
 *     without it, g.parentGoid says at a goroutine's first sight who made it, not when: that is believed in processes whose
 *     goroutines were made anew for each request so far, and no longer once one of them outlived its request (a pool).
 *   - what was handed a value by a channel (probes as well) works for the unit that sent it, until it is handed the next
 *     one at the same place of its code (a worker's loop). What it is handed elsewhere, for another unit, makes the rest
 *     of its turn undecided. Work for a request that is answered is undecided as well.
 * Whose work is not known has a unit that nobody owns. All memory that is read is a stranger's: a pointer may lead
 * anywhere, so what lies there is checked, and no loop depends on it. */
#pragma once

#include "lineage.h"

/* Where things lie in a process, by version of Go and by its binary (otel_ebpf/runtimes/go.py). 0: not known. */
struct go_runtime {
	u64 net_http; /* package net/http's code */
	u64 net_http_end;
	u64 database; /* package database/sql's code */
	u64 database_end;
	u64 runtime; /* package runtime's code */
	u64 runtime_end;
	u64 read_loop; /* start functions of the goroutines of a client's connection, */
	u64 write_loop;
	u64 background; /* and of the one that waits in the name of a server connection's */
	u64 read_frames
		[2];     /* and of those that read a server connection's frames of HTTP/2: net/http, golang.org/x/net */
	u64 thread_slot; /* added to the thread pointer: where the current g is */
	u32 loop_slot;   /* bytes below the stack's end at which a loop keeps its connection */
	u32 g_goid;
	u32 g_parent; /* 0: before Go 1.21 */
	u32 g_start;
	u32 g_frame; /* frame pointer of one that is parked */
	u32 g_m;
	u32 m_g0;
	u32 m_curg;
	u32 conn_reqch;
	u32 request_chan;
	u32 request_size;
	u32 chan_elemtype;
	u32 chan_recvx;
	u32 chan_recvq;
	u32 sudog_select;
	u64 grpc_reader;      /* grpc-go: start functions of who reads a server connection's frames, */
	u64 grpc_loops[2];    /* and of those that write and read a client connection's */
	u32 stream_id;        /* in a stream of its server: the number, */
	u32 stream_transport; /* and the ServerTransport */
	u32 stream_pointer;   /* it begins with a pointer to what has the number */
	u32 probed;           /* the probes of births and channels are attached to it, */
	u32 streams;          /* that of handlers of streams, */
	u32 grpc_serves;      /* those of grpc-go's server, */
	u32 grpc_calls;       /* and those of its client */
	u32 generation;       /* of the process: another one may have its number later */
};

#if defined(__TARGET_ARCH_x86) /* cmd/compile/abi-internal.md */
#define GOROUTINE_REGISTER r14
#else
#define GOROUTINE_REGISTER regs[28]
#endif

enum { GO_TOP = 48, GO_STACK_MOST = 1 << 30 }; /* bits of a user address; bytes of a stack (runtime.maxstacksize) */

static __always_inline bool go_pointer(u64 at)
{
	return at >= 4096 && !(at >> GO_TOP) && !(at & 7);
}

static __always_inline u64 go_word(u64 at)
{
	u64 word = 0;

	if (!go_pointer(at) || bpf_probe_read_user(&word, sizeof(word), (void *)at))
		return 0;
	return word;
}

struct goroutine {
	u64 goid;
	u64 parent; /* goid, 0: not known */
	u64 start;  /* its first function */
};

/* False: there is no goroutine at g. */
static __always_inline bool read_goroutine(const struct go_runtime *r, u64 g, struct goroutine *into)
{
	u64 near[4]; /* parentGoid, gopc, ancestors, startpc */

	into->goid = go_word(g + r->g_goid);
	if (!into->goid || into->goid >> GO_TOP ||
	    bpf_probe_read_user(near, sizeof(near), (void *)(g + r->g_start - sizeof(near) + 8)))
		return false;
	into->parent = r->g_parent ? near[0] : 0;
	into->start = near[3];
	return true;
}

struct goroutine_key {
	u64 goid; /* 0: of the process */
	u32 tgid;
	u32 generation;
};

enum goroutine_flags {
	GOROUTINE_ROOT = 1 << 0,      /* it receives requests or answers them itself */
	GOROUTINE_BORN = 1 << 1,      /* `born` was told at its birth */
	GOROUTINE_ANSWERED = 1 << 2,  /* root: its present request is being answered, or was */
	GOROUTINE_MIXED = 1 << 3,     /* it gets work in several ways: which one it does cannot be known */
	GOROUTINE_DISTURBED = 1 << 4, /* it was handed something in an unusual way once */
	GOROUTINE_OUTLIVED = 1 << 5,  /* of the process: some goroutines outlive the request that they were born for */
	GOROUTINE_TRAILERS = 1 << 6,  /* root: its answers end with trailers, of which there are some always */
	GOROUTINE_ELSEWHERE = 1 << 7, /* it was handed values at other places, too, */
	GOROUTINE_CHANGED = 1 << 8,   /* but not yet since it was handed another unit's at the usual one */
};

/* One goroutine that has to do with requests. */
struct origin {
	u64 born; /* unit that it was born for, or seems to have been; of a root: its own; of the process: the last with a child seen */
	u64 handed; /* unit that it was last handed a value by, 0: nobody's; of the process: when a root last received */
	u64 by;     /* where it was; of the process: calls of which nobody knows for whom they are */
	u16 flags;  /* enum goroutine_flags */
	u16 agreed; /* how often it was handed another unit's value at the usual place first, and then one elsewhere */
	u32 times;  /* how often it was there; of the process: requests whose children were seen */
};
/* What was used longest ago makes room: whose origin is forgotten is undecided. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct goroutine_key);
	__type(value, struct origin);
} origins SEC(".maps");

struct go_process {
	u32 tgid;
	u32 generation;
};

static __always_inline struct origin *find_origin(const struct go_process *p, u64 goid)
{
	struct goroutine_key key = { .goid = goid, .tgid = p->tgid, .generation = p->generation };

	return bpf_map_lookup_elem(&origins, &key);
}

static __always_inline void set_origin(const struct go_process *p, u64 goid, const struct origin *o)
{
	struct goroutine_key key = { .goid = goid, .tgid = p->tgid, .generation = p->generation };

	if (bpf_map_update_elem(&origins, &key, o, BPF_ANY))
		lose(LOSS_NO_ANCESTRY);
}

enum { UNKNOWN_CALLS = 24, RECENT_NS = 1000000000 };
/* A call is made, and it is not known for whom: where requests are being handled, probes would tell. */
static __always_inline void is_unknown(const struct go_process *p, struct origin *process)
{
	if (!process || process->by > UNKNOWN_CALLS || bpf_ktime_get_ns() - process->handed > RECENT_NS)
		return;
	process->by++;
	if (process->by > UNKNOWN_CALLS)
		want_probes(p->tgid, PROBES_WORK);
}

static __always_inline void is_asked(const struct go_process *p)
{
	struct origin *process = find_origin(p, 0), first = {};

	if (!process) {
		first.handed = bpf_ktime_get_ns();
		set_origin(p, 0, &first);
	} else if (process->by <= UNKNOWN_CALLS) {
		process->handed = bpf_ktime_get_ns();
	}
}

static __always_inline u64 goroutine_unit(u64 goid, u16 requests)
{
	return UNIT(UNIT_GOROUTINE, goid << 16 | requests);
}

static __always_inline u64 root_of(u64 unit) /* its goid */
{
	return unit << 8 >> 24;
}

/* Is the root's request that was its unit then still the one that it has, and not answered? */
static __always_inline bool still_open(const struct go_process *p, u64 unit)
{
	struct origin *root = find_origin(p, root_of(unit));

	return root && root->born == unit && !(root->flags & GOROUTINE_ANSWERED);
}

enum { LEADS = 3 };
/* Is it known at which place work comes in? If there are others, a value that comes there may be the work, and what comes at
 * the usual one something that workers borrow from each other. */
static __always_inline bool has_usual_place(const struct origin *o)
{
	return o->times > 1 && (!(o->flags & GOROUTINE_ELSEWHERE) || o->agreed >= LEADS);
}

/* For whom the goroutine works, by what was told of it: 0, nobody knows. */
static __always_inline u64 works_for(const struct go_process *p, const struct origin *o)
{
	u64 born = o->flags & GOROUTINE_BORN ? o->born : 0;

	if (o->flags & GOROUTINE_ROOT)
		return o->born;
	if (o->flags & GOROUTINE_MIXED)
		return 0;
	if (!o->times || born == o->handed)
		return born;
	/* Born for one, handed work by another: a pool that was made by a request, once that is over. */
	if (born && still_open(p, born))
		return 0;
	return has_usual_place(o) && o->handed && still_open(p, o->handed) ? o->handed : 0;
}

enum { FRESH = 4 }; /* requests that had children of their own, before parentGoid is believed */
static __always_inline bool believed(const struct origin *process)
{
	return process && process->times > FRESH && !(process->flags & GOROUTINE_OUTLIVED);
}

/* What parentGoid says of a goroutine that no probe told of: nothing, if it may have been made for another request. */
static __always_inline u64 first_sight_of(const struct go_process *p, const struct goroutine *g)
{
	struct origin *parent = g->parent ? find_origin(p, g->parent) : 0;
	struct origin *process = find_origin(p, 0), seen = {};

	if (!parent)
		return 0;
	seen.born = works_for(p, parent);
	if (!seen.born || !still_open(p, seen.born))
		return 0;
	set_origin(p, g->goid, &seen);
	if (!process)
		return 0;
	/* Of different roots: one may have made a pool, of which each goroutine is seen at another time. */
	if (root_of(process->born) != root_of(seen.born)) {
		process->born = seen.born;
		process->times++;
	}
	return believed(process) ? seen.born : 0;
}

/* The unit that this goroutine works for; its own if that is not known, which nobody owns. */
static __always_inline u64 unit_of_goroutine(const struct go_process *p, const struct goroutine *g)
{
	struct origin *o = find_origin(p, g->goid), *process;
	u64 unit;

	if (o && o->flags & GOROUTINE_ROOT)
		return o->born;
	process = find_origin(p, 0);
	if (!o) {
		unit = first_sight_of(p, g);
	} else if (o->flags & GOROUTINE_BORN || o->times) {
		unit = works_for(p, o);
	} else { /* it was met before */
		if (process && !still_open(p, o->born))
			process->flags |= GOROUTINE_OUTLIVED;
		unit = believed(process) ? o->born : 0;
	}
	if (unit)
		return unit;
	is_unknown(p, process);
	return goroutine_unit(g->goid, 0);
}

/* It receives a request: from now on it is another unit. */
static __always_inline u64 root_receives(const struct go_process *p, u64 goid)
{
	struct origin *o = find_origin(p, goid);

	is_asked(p);
	if (o && o->flags & GOROUTINE_ROOT) {
		u16 requests = o->born + 1;
		o->born = goroutine_unit(goid, requests ? requests : 1);
		o->flags &= ~GOROUTINE_ANSWERED;
		return o->born;
	}
	struct origin root = { .born = goroutine_unit(goid, 1), .flags = GOROUTINE_ROOT };
	set_origin(p, goid, &root);
	return root.born;
}

/* It answers one: the unit that received it; or it answers what others receive. */
static __always_inline u64 root_answers(const struct go_process *p, u64 goid)
{
	struct origin *o = find_origin(p, goid);

	if (o && o->flags & GOROUTINE_ROOT) {
		o->flags |= GOROUTINE_ANSWERED;
		return o->born;
	}
	struct origin root = { .born = goroutine_unit(goid, 0), .flags = GOROUTINE_ROOT | GOROUTINE_ANSWERED };
	set_origin(p, goid, &root);
	return root.born;
}

/* Streams of HTTP/2. Whose one is, is known by its number and by the goroutine that has to do with the connection:
 *   - net/http, golang.org/x/net: a server connection's goroutine (serve) makes one that reads frames, and one for each
 *     stream that calls the handler.
 *   - grpc-go: a server connection's goroutine reads frames; each stream is handled in one made for it, or in one of a pool.
 *     A client connection's requests are written by a loop, to which callers hand them.
 * A handler is a root. Probes tell who has which stream, golang.bpf.c; which goroutine moves the bytes says nothing. */
struct stream_key {
	u64 goid; /* of the connection's goroutine */
	u32 tgid;
	u32 generation;
	u64 stream;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct stream_key);
	__type(value, u64); /* unit of its handler, or of its caller */
} go_streams SEC(".maps");
/* Owner: the connection; its goroutine. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct goroutine_key);
} go_ends SEC(".maps");

/* The goroutine by which the streams of a connection are known. probes: what would tell of them and is not attached; 0:
 * nothing. Written where it lies: the stack is short here. */
static __always_inline void has_streams(const struct go_process *p, const u64 *conn, u64 goid, u32 probes)
{
	static struct goroutine_key zero;
	struct goroutine_key *end;

	if (!goid)
		return;
	if (probes)
		want_probes(p->tgid, probes);
	if (bpf_map_lookup_elem(&go_ends, conn))
		return;
	bpf_map_update_elem(&go_ends, conn, &zero, BPF_NOEXIST);
	end = bpf_map_lookup_elem(&go_ends, conn);
	if (!end)
		return;
	end->goid = goid;
	end->tgid = p->tgid;
	end->generation = p->generation;
}

enum stream_moment {
	STREAM_ASKED, /* client */
	STREAM_ANSWERED,
	STREAM_ENDED, /* server: nothing of the response is left */
};
/* The unit that handles a stream of this connection, or has opened it; 0: not known. room: for a key. */
static __always_inline u64 unit_of_stream(const u64 *conn, u32 stream, enum stream_moment moment, void *room)
{
	struct goroutine_key *end = bpf_map_lookup_elem(&go_ends, conn), *of_root = room;
	struct stream_key *key = room;

	if (!end)
		return 0;
	key->goid = end->goid;
	key->tgid = end->tgid;
	key->generation = end->generation;
	key->stream = stream;
	u64 *unit = bpf_map_lookup_elem(&go_streams, key);
	if (!unit || moment == STREAM_ASKED)
		return unit ? *unit : 0;
	of_root->goid = root_of(*unit); /* the rest of the key is the same */
	struct origin *root = bpf_map_lookup_elem(&origins, of_root);
	if (root && root->born == *unit && (moment == STREAM_ENDED || !(root->flags & GOROUTINE_TRAILERS)))
		root->flags |= GOROUTINE_ANSWERED;
	return *unit;
}
