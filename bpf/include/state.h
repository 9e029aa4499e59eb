/* What the kernel side remembers, and for how long: one map per purpose. */
#pragma once

#include "http2_state.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* Set by the loader before the program is verified. */
const volatile struct {
	u64 seed;        /* makes span ids unpredictable and unique between hosts */
	u64 idle_ns;     /* an answered exchange on an idle connection is sent after this */
	u64 timeout_ns;  /* an unanswered one ends after this */
	u64 announce_ns; /* a connection in use is announced again after this */
	u32 agent;       /* tgid of the agent: never observed */
	u32 netns;       /* network namespace that is observed, by its inode number; 0: all of them */
	u32 storage;     /* 1: sock_*_length hooks and socket/task storage; 0: sys_exit and hash maps */
	u32 trust;       /* enum trust: of whom contexts on the wire are believed */
} config SEC(".rodata.config") = {};

enum trust { TRUST_NONE = 0, TRUST_PRIVATE = 1, TRUST_ALL = 2 };
enum phase { IDLE = 0, REQUEST = 1, RESPONSE = 2, REPORTED = 3 };

/* One end of a connection. */
struct conn {
	struct exchange x;   /* the exchange in progress: it is the record */
	struct connection k; /* what user space was told, or is to be told, of the connection */
	u64 t_announced;     /* 0: never */
	u64 t_told;          /* unix: when the response in progress was last sent as PARTIAL */
	u64 ino;             /* hash map state only: tells a reused struct sock */
	u64 unsent;          /* number + 1 of the exchange in progress, until somebody sends it: see claim() */
	u64 swept;           /* x.t_rsp_end of what the sweep has sent */
	u32 n;               /* exchanges so far */
	u32 events;          /* the sending thread's event count after its last send; TLS socket: messages so far */
	u32 tid;             /* that thread */
	u32 reset;           /* EXCHANGE_RESET once the connection was reset */
	u32 copied;          /* TCP: sequence number up to which received bytes were seen, 0: not known */
	u32 interim;         /* bytes of interim responses to the request in progress */
	u8 phase;            /* enum phase */
	u8 client;
	u8 ignored; /* the agent's own traffic */
	u8 tls;     /* cipher text: its exchanges come from the TLS library */
	u8 head;    /* the peer's record carries the payload */
	u8 body;    /* the request may have a body that arrives after an early response */
	u8 epoll;
	u8 changed;  /* announce again */
	u8 listed;   /* in local_ends */
	u8 told;     /* unix: how often the response in progress was sent */
	u8 paired;   /* unix: neither end has an address (socketpair) */
	u8 open;     /* the thread x.tid_req has the request in progress among its open ones */
	u8 exports;  /* leads to a receiver of telemetry: see exports.h */
	u8 succeeds; /* EXCHANGE_SUCCEEDS, of its first exchange */
	u8 greets;   /* the server spoke first, or nobody saw who did */
	struct http2 h2;
};

enum { SLACK = RESPONSE_LARGE / 2 };
/* The payload of the exchange in progress. SLACK gives the verifier room behind a copy at any offset (see copy_bytes). With
 * its head it must stay within 2 KiB, which is what the kernel then takes for it. */
struct payload {
	u8 request[REQUEST_LARGE];
	u8 response[RESPONSE_LARGE];
	u8 slack[SLACK];
};

/* The message as the user gave it: one buffer, or a vector of them. */
struct source {
	u64 base;    /* of the only buffer; 0: vector, or nothing to be had */
	u64 vector;  /* struct iovec * */
	u32 buffers; /* in it */
	u64 sock;    /* key of its payload, without sock_*_length */
};

struct message {
	u64 now;
	u64 begun; /* when the call began, where that is known: else as now */
	u64 task;  /* tgid << 32 | tid */
	u32 len;
	u32 seq; /* TCP sequence number of its first byte */
	bool send;
	struct source from;
};

/* Where a copy of a vector of buffers has got to. */
struct cursor {
	u64 vector;
	u32 have;
	u32 left;
};

/* Where copying out of an export has got to. */
struct exporting {
	u64 vector; /* next struct iovec *; 0: one buffer */
	u64 from;   /* next byte: its address, or its place in the buffer that `vector` points to */
	u64 conn;
	u64 t;
	u32 left;
	u32 seq;
	u32 tgid;
};

enum { OPEN_REQUESTS = 4 };
/* One thread: which requests it has received and not answered, and where it is inside a syscall. */
struct thread {
	u64 open[OPEN_REQUESTS]; /* span ids, 0 = free */
	u32 more;                /* open ones that it has no room for */
	u32 streams;             /* which of `open` are streams of HTTP/2: bit i for open[i] */
	u64 crowded;             /* when it had no room for a stream last, 0: not lately */
	u64 answering;           /* span id of the request that it answered last, until it receives another */
	u64 vector;              /* address of the mmsghdr array of the current sendmmsg/recvmmsg */
	u64 ssl;                 /* SSL* of the TLS library's call in progress, 0 outside */
	u64 ssl_buffer;          /* its buffer */
	u64 ssl_begun;           /* when it was called */
	u64 ssl_moved;           /* address of the size_t in which an _ex call says how much it moved */
	u64 tls_conn;    /* connection whose TLS records this thread received last, till a call of the library */
	u64 tls_written; /* SSL* that has written and whose socket is not known */
	u64 received;    /* span id of the exchange of which it received bytes last */
	u64 closed;      /* which time after it slept it closed a connection of its own last (awake_since) */
	u64 unit;        /* UNIT() that moves the message in hand, without sock_*_length */
	u64 regs;        /* address of its user registers in the call in progress; 0 without sock_*_length */
	u64 naming;      /* SSL* that is being told its server's name, 0 outside of that call */
	u64 naming_from; /* where that name lies */
	u32 vector_at;   /* next message in it */
	u32 vector_events;
	u32 events; /* messages moved so far, on any socket */
	u32 ssl_bound;
	u32 epoch;   /* of runtimes_epoch, when `runtime` was looked up */
	u32 runtime; /* enum runtime_kind */
	struct cursor cursor;
	struct exporting exporting;
	struct feeding feeding;
	struct message message; /* the one in hand, where the stack is too short for it */
};

#define STORAGE(NAME, TYPE, VALUE)                                                                                     \
	struct {                                                                                                       \
		__uint(type, TYPE);                                                                                    \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                                  \
		__type(key, int);                                                                                      \
		__type(value, VALUE);                                                                                  \
	} NAME SEC(".maps")
#define TABLE(NAME, KEY, VALUE, ENTRIES)                                                                               \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_HASH);                                                                       \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                                  \
		__uint(max_entries, ENTRIES);                                                                          \
		__type(key, KEY);                                                                                      \
		__type(value, VALUE);                                                                                  \
	} NAME SEC(".maps")
#define RECENT(NAME, KEY, VALUE, ENTRIES)                                                                              \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);                                                                   \
		__uint(max_entries, ENTRIES);                                                                          \
		__type(key, KEY);                                                                                      \
		__type(value, VALUE);                                                                                  \
	} NAME SEC(".maps")
#define RING(NAME, BYTES)                                                                                              \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                                    \
		__uint(max_entries, BYTES);                                                                            \
	} NAME SEC(".maps")
#define COUNTS(NAME, KINDS)                                                                                            \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                                               \
		__uint(max_entries, KINDS);                                                                            \
		__type(key, u32);                                                                                      \
		__type(value, u64);                                                                                    \
	} NAME SEC(".maps")

/* Born at the first message (or connect), gone with the socket or thread. */
STORAGE(conns, BPF_MAP_TYPE_SK_STORAGE, struct conn);
STORAGE(payloads, BPF_MAP_TYPE_SK_STORAGE, struct payload);
STORAGE(threads, BPF_MAP_TYPE_TASK_STORAGE, struct thread);
/* The same where the kernel has no such storage for tracing programs; removed at close and exit, swept by age. */
TABLE(conns_by_sock, u64, struct conn, 65536);
TABLE(payloads_by_sock, u64, struct payload, 65536);
TABLE(threads_by_id, u64, struct thread, 65536);

RING(exchanges_head, 2 << 20);
RING(exchanges_small, 8 << 20);
RING(exchanges_large, 4 << 20);
RING(connections, 1 << 19);
RING(processes, 1 << 17);
RING(server_names, 1 << 16);
RING(lineages, 1 << 19);
RING(segments, 1 << 18);
RING(heap_marks, 1 << 20);

enum stat {
	STAT_BEGUN, /* exchanges: begun = ended + encrypted + those in progress */
	STAT_ENDED,
	STAT_ENCRYPTED, /* turned out to be none: TLS records, the agent's own */
	STAT_REOPENED,  /* went on after they were sent as PARTIAL; amended later */
	STAT_AMENDED,
	STAT_UNSOLICITED, /* messages that answer no request: greetings, pushes */
	STAT_TLS_BYTES,
	STAT_HIDDEN,    /* bytes that were received by other ways than the socket calls: splice */
	STAT_DATAGRAMS, /* exchanges of DNS over UDP that were answered; in none of the counts above */
	STAT_KINDS,
};
COUNTS(losses, LOSS_KINDS);
COUNTS(stats, STAT_KINDS);

static __always_inline void add_to(void *counts, u32 what, u64 by)
{
	u64 *n = bpf_map_lookup_elem(counts, &what);
	if (n)
		*n += by;
}

static __always_inline void lose(u32 what)
{
	add_to(&losses, what, 1);
}

static __always_inline void count(u32 what, u64 by)
{
	add_to(&stats, what, by);
}

/* Not in the network namespace that the agent is confined to. */
static __always_inline bool is_elsewhere(struct sock *sk)
{
	return config.netns && BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) != config.netns;
}

static __always_inline bool runs_elsewhere(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return config.netns && BPF_CORE_READ(task, nsproxy, net_ns, ns.inum) != config.netns;
}

static __always_inline u64 mix64(u64 z) /* splitmix64's finaliser: a bijection */
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* The span of the n-th exchange of a connection. Never 0. */
static __always_inline u64 span_of(u64 connection, u32 n)
{
	u64 span = mix64(config.seed + (connection << 24) + n);

	return span ? span : 1;
}

/* The process's: threads have names of their own. */
static __always_inline void read_process_name(char name[16])
{
	struct task_struct *task = (void *)bpf_get_current_task();
	void *leader = BPF_CORE_READ(task, group_leader);

	bpf_probe_read_kernel(name, 16, leader + bpf_core_field_offset(struct task_struct, comm));
}

static __always_inline struct thread *thread_of(struct task_struct *task)
{
	struct thread *t = bpf_task_storage_get(&threads, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!t)
		lose(LOSS_NO_THREAD_STATE);
	return t;
}

static __always_inline struct thread *this_thread(bool storage)
{
	static struct thread zero;

	if (storage)
		return thread_of(bpf_get_current_task_btf());
	u64 id = bpf_get_current_pid_tgid();
	struct thread *t = bpf_map_lookup_elem(&threads_by_id, &id);
	if (t)
		return t;
	bpf_map_update_elem(&threads_by_id, &id, &zero, BPF_NOEXIST);
	t = bpf_map_lookup_elem(&threads_by_id, &id);
	if (!t)
		lose(LOSS_NO_THREAD_STATE);
	return t;
}

/* A number that is another one, and never 0, each time that the current thread has slept. */
static __always_inline u64 awake_since(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, nvcsw) + 1;
}

/* This thread's state, if it has any. */
static __always_inline struct thread *known_thread(bool storage)
{
	u64 id = bpf_get_current_pid_tgid();

	return storage ? bpf_task_storage_get(&threads, bpf_get_current_task_btf(), 0, 0)
		       : bpf_map_lookup_elem(&threads_by_id, &id);
}

static __always_inline void open_request(struct thread *t, u64 span)
{
	t->answering = 0;
	for (int i = 0; i < OPEN_REQUESTS; i++) {
		if (!t->open[i]) {
			t->open[i] = span;
			return;
		}
	}
	t->more++;
}

static __always_inline bool has_no_request(const struct thread *t)
{
	return !t->open[0] && !t->open[1] && !t->open[2] && !t->open[3] && !t->more && !t->crowded;
}

/* Once for each that was opened, by the thread that did; one that another thread answers stays open here. */
static __always_inline void close_request(struct thread *t, u64 span)
{
	for (int i = 0; i < OPEN_REQUESTS; i++) {
		if (t->open[i] == span) {
			t->open[i] = 0;
			return;
		}
	}
	if (t->more)
		t->more--;
}

/* The request in progress is open no more, if this is the thread that has it open. */
static __always_inline void settle_request(struct conn *c, struct thread *t)
{
	if (!c->open || c->x.tid_req != (u32)bpf_get_current_pid_tgid())
		return;
	c->open = 0;
	close_request(t, c->x.span_id);
}

/* Open requests that are streams of HTTP/2, of which there may be many, and which are answered by whatever thread: one that this
 * thread has not open is noted as answered, for the thread that has. Those for which there is no room make it crowded for a
 * while: what it does then may be for any of them. */
RECENT(answered_streams, u64, u32, 16384);

static __always_inline void open_stream(struct thread *t, u64 span)
{
	t->answering = 0;
	for (int i = 0; i < OPEN_REQUESTS; i++) {
		if (!t->open[i]) {
			t->open[i] = span;
			t->streams |= 1 << i;
			return;
		}
	}
	t->crowded = bpf_ktime_get_ns();
}

#define CROWDED_NS 60000000000ull
/* Streams that other threads have answered are open no more. */
static __noinline int forget_answered(struct thread *t)
{
	if (t->crowded && bpf_ktime_get_ns() - t->crowded > CROWDED_NS)
		t->crowded = 0;
	for (int i = 0; i < OPEN_REQUESTS; i++) {
		u64 span = t->open[i];
		if (!(t->streams & 1 << i) || !bpf_map_lookup_elem(&answered_streams, &span))
			continue;
		bpf_map_delete_elem(&answered_streams, &span);
		t->open[i] = 0;
		t->streams &= ~(1 << i);
	}
	return 0;
}

/* The one request that this thread has open, or is answering. Adds to *flags EXCHANGE_MANY when there are several (then
 * it is 0), EXCHANGE_ANSWERING when the response has begun: the response may be over by now, which its own record says. */
static __always_inline u64 only_request(struct thread *t, u32 *flags)
{
	u64 only = 0;

	if (t->streams || t->crowded)
		forget_answered(t);
	if (t->more || t->crowded) {
		*flags |= EXCHANGE_MANY;
		return 0;
	}
	for (int i = 0; i < OPEN_REQUESTS; i++) {
		if (!t->open[i])
			continue;
		if (only) {
			*flags |= EXCHANGE_MANY;
			return 0;
		}
		only = t->open[i];
	}
	if (only || !t->answering)
		return only;
	*flags |= EXCHANGE_ANSWERING;
	return t->answering;
}
