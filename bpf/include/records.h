/* Every record that crosses to user space. The compiled object's BTF of these structs IS the schema:
 * otel_ebpf.kernel.btf builds the numpy dtypes from it, so no layout is typed twice. */
#pragma once

/* How much of a message is kept, by size class. A record is (exchange, request, response), all bytes of a class equal. */
enum capture {
	REQUEST_SMALL = 192,
	RESPONSE_SMALL = 64,
	REQUEST_LARGE = 1024,
	RESPONSE_LARGE = 512,
};

enum exchange_flags {
	EXCHANGE_SERVER = 1 << 0,     /* this end received the request; else it sent it */
	EXCHANGE_UNANSWERED = 1 << 1, /* ended without a byte of response (close, reset, timeout) */
	EXCHANGE_RESET = 1 << 2,      /* the connection was reset or aborted */
	EXCHANGE_TLS = 1 << 3,        /* the payload is plaintext taken from the TLS library */
	EXCHANGE_PEER =
		1 << 4, /* the other end is on this host and observed: both ends have the same pair and seq_req */
	EXCHANGE_HEAD = 1 << 5,         /* no payload here: the other end's record carries it */
	EXCHANGE_REQUEST_CUT = 1 << 6,  /* the request was longer than what was kept */
	EXCHANGE_RESPONSE_CUT = 1 << 7, /* the same for the response */
	EXCHANGE_NO_REQUEST = 1 << 8,   /* no request bytes could be read (io_uring, splice, fault) */
	EXCHANGE_NO_RESPONSE = 1 << 9,  /* no response bytes could be read (sendfile, io_uring, splice, fault) */
	EXCHANGE_PARTIAL =
		1 << 10, /* sent while the connection is idle: more response bytes may follow in an amendment */
	EXCHANGE_AMENDS = 1 << 11,    /* replaces the PARTIAL record with the same span_id */
	EXCHANGE_LAST = 1 << 12,      /* the connection is closed: no further exchange will carry this id */
	EXCHANGE_EPOLL = 1 << 13,     /* the socket was in an epoll set (or io_uring poll) when the request was sent */
	EXCHANGE_DISTURBED = 1 << 14, /* the sending thread touched other sockets before it received the response */
	EXCHANGE_MANY = 1 << 15,      /* the sending thread had several requests open: `cause` is 0 */
	EXCHANGE_MIDSTREAM = 1 << 16, /* the connection was there before it was first seen */
	EXCHANGE_ANSWERING = 1 << 17, /* the request in `cause` was being answered already when this one was sent */
	EXCHANGE_BORN = 1 << 18,      /* client: the first on a connection whose connect() was seen */
	EXCHANGE_CARRIED = 1 << 19, /* client: the other host was told of it, as a child of `cause` (propagate.bpf.c) */
	EXCHANGE_SUCCEEDS =
		1 << 20, /* EXCHANGE_BORN, by a thread that had closed another connection since it slept last */
};

/* One request and its response, as one end of a connection saw them. Times: CLOCK_MONOTONIC ns; 0 = did not happen. */
struct exchange {
	unsigned long long span_id;   /* random, never 0 */
	unsigned long long conn;      /* connection.id of this end */
	unsigned long long t_req;     /* first byte of the request */
	unsigned long long t_req_end; /* last byte of the request */
	unsigned long long t_rsp;     /* first byte of the response */
	unsigned long long t_rsp_end; /* last byte of the response */
	unsigned long long cause;     /* client: span_id of the one request that the sending thread had open; else 0 */
	unsigned long long after; /* span_id of the exchange (a request in, or an own call) of which the thread received
				       * bytes last before it sent the request's (client) or response's (server) first byte.
				       * A connection that was just opened: before its connect(). 0: none */
	unsigned long long
		unit_req; /* UNIT() that received (server) or sent (client) the request's first byte; 0: the thread */
	unsigned long long unit_rsp; /* UNIT() that wrote (server) or received (client) the response's first byte */
	unsigned long long req_bytes;
	unsigned long long rsp_bytes;
	unsigned int tgid;    /* process at the request's first byte */
	unsigned int tid_req; /* threads, as the units above */
	unsigned int tid_rsp;
	unsigned int
		seq_req; /* absolute TCP sequence number of the request's first byte; the same number at both ends */
	unsigned int seq_rsp;
	unsigned int n;         /* ordinal on this connection, from 0 */
	unsigned int flags;     /* enum exchange_flags */
	unsigned short req_cap; /* bytes of request[] that are valid */
	unsigned short rsp_cap;
};

/* A unit of execution is smaller than its thread, or wanders between threads: see unit.h. In a UNIT() the top byte is its
 * kind, the rest a number that no other unit of its kind and process has. */
enum unit_kind {
	UNIT_THREAD = 0,
	UNIT_GOROUTINE = 1,
	UNIT_CONTEXT = 2,  /* CPython's, by birth: its address is used again */
	UNIT_GREENLET = 3, /* of CPython: by the root of its stack */
	UNIT_ASYNC = 4,    /* Node: execution id << 28 | trigger id */
	UNIT_VIRTUAL = 5,  /* thread of a JVM */
	UNIT_OPAQUE = 255, /* there is one, and it could not be read: the thread says nothing */
};

/* Where a unit came from. Sent before the first exchange that may need it, once. */
struct lineage {
	unsigned long long unit;
	unsigned long long parent;
	unsigned long long t; /* its birth, CLOCK_MONOTONIC ns; or when it was first seen */
	unsigned int tgid;
	unsigned int kind; /* enum unit_kind */
};

/* Node: the ids from first_id on were given after the thread had received bytes of the exchange `after`. */
struct segment {
	unsigned long long first_id;
	unsigned long long after;
	unsigned long long t;
	unsigned int tgid;
	unsigned int tid;
};

/* JVM: where a thread allocates as it moves the first bytes of a request, or sends those of a response, and, if it makes a
 * call without a request of its own, the objects on its stack. */
enum heap_mark_bits {
	MARK_SENDS = 1 << 0,
	MARK_CLIENT = 1 << 1, /* at the end that connected */
	MARK_JOB = 1 << 2,    /* objects were looked for */
	MARK_TORN = 1 << 3,   /* a collection was going on: nothing of it holds */
	MARK_SEEN = 1 << 4,   /* by another thread, whose call this is; it moved no bytes */
};
enum { MARK_OBJECTS = 16 };
struct heap_mark {
	unsigned long long t;
	unsigned long long conn;  /* connection.id */
	unsigned long long unit;  /* UNIT() of the virtual thread that runs on it, whose own object is then the only one; or 0 */
	unsigned long long start; /* of its allocation buffer (TLAB), */
	unsigned long long top;   /* where the next object will lie, */
	unsigned long long end;   /* and where it ends */
	unsigned int tgid;
	unsigned int tid;
	unsigned int collections; /* how many there have been: no object moves between two of them */
	unsigned short bits;      /* enum heap_mark_bits */
	unsigned short count;     /* of objects[] */
	/* address, and in the upper 16 bits how many words from the stack's base; those next to the base first */
	unsigned long long objects[MARK_OBJECTS];
};

enum connection_flags {
	CONNECTION_SERVER = 1 << 0,
	CONNECTION_TLS = 1 << 1,       /* TLS records were seen on the socket */
	CONNECTION_MIDSTREAM = 1 << 2, /* existed before it was first seen */
	CONNECTION_BORN = 1 << 3,      /* its connect() was seen */
	CONNECTION_UNSEEN = 1 << 4, /* server: at t_open it answered a request that had come before it was first seen */
};

/* What is the same for all exchanges of one end of a connection. Sent before its first exchange, again when something
 * in it changed (peer found, TLS seen), and once a minute while exchanges go on: user space may forget idle ones. */
struct connection {
	unsigned long long id;
	unsigned long long peer;        /* id of the other end on this host; 0 = not (yet) known */
	unsigned long long key;         /* TCP: the same at both ends, on whatever host; 0 = not known */
	unsigned long long cgroup;      /* cgroup v2 id of the process that first used it */
	unsigned long long t_open;      /* first seen, CLOCK_MONOTONIC ns */
	unsigned long long birth_cause; /* client: span_id of the one request that the connecting thread had open */
	unsigned long long birth_after; /* client: as `after` of an exchange, at connect() */
	unsigned long long birth_unit;  /* client: UNIT() that connected */
	unsigned int tgid;
	unsigned int netns;
	unsigned int flags; /* enum connection_flags */
	unsigned short local_port;
	unsigned short remote_port;
	unsigned char local[16]; /* IPv6, or IPv4-mapped; unix: zero */
	unsigned char remote[16];
	unsigned short family;   /* AF_INET, AF_INET6, AF_UNIX */
	unsigned short protocol; /* IPPROTO_TCP, IPPROTO_UDP; 0 for unix */
	char comm[16];
};

enum { SERVER_NAME_MOST = 256 };
/* By which name a TLS client asked for its server (SNI, RFC 6066 §3). Sent before the connection's first exchange in
 * plaintext, and once a minute while there are more, as the connection is. */
struct server_name {
	unsigned long long conn; /* connection.id of the client's end */
	char name[SERVER_NAME_MOST];
};

enum { EXPORT_CHUNK = 4096 };
/* A part of what a process exports as telemetry; the parts of a connection follow each other by seq. */
struct export_chunk {
	unsigned long long conn; /* connection.id of the sender's end */
	unsigned long long t;    /* when the message was written, CLOCK_MONOTONIC ns */
	unsigned int tgid;
	unsigned int seq; /* TCP sequence number of its first byte */
	unsigned int len;
	unsigned int unused;
	unsigned char data[EXPORT_CHUNK];
};

enum process_event_kind { PROCESS_EXEC = 1, PROCESS_EXIT = 2, PROCESS_LISTENS = 3 };

struct process_event {
	unsigned long long t;
	unsigned int tgid;
	unsigned int kind; /* enum process_event_kind */
	char comm[16];
};

/* HTTP/2 (RFC 9113): the streams of a connection do not take turns, so its frames are told one by one, each end on its
 * own; user space makes exchanges of them. */
enum frame_kind {
	FRAME_HEADERS = 1, /* HEADERS, CONTINUATION: the header block, in pieces of at most FRAME_BLOCK_LARGE */
	FRAME_DATA = 2,    /* frames of one stream that follow each other in one message, as one */
	FRAME_RESET = 3,   /* RST_STREAM */
	FRAME_CLOSED = 4,  /* the connection ended: nothing more comes of it. In the direction of responses */
	FRAME_LOST = 5,    /* where frames begin is not known any more: nothing more comes of this direction */
};

enum frame_bits {
	FRAME_REQUEST = 1 << 0,    /* in the direction of requests: sent by the client */
	FRAME_END_STREAM = 1 << 1, /* the last of its stream in this direction */
	FRAME_BEGINS = 1 << 2,     /* the first piece of a header block */
	FRAME_ENDS = 1 << 3,       /* the last one (END_HEADERS) */
	FRAME_CUT = 1 << 4,        /* some of the block is missing behind this piece */
};

enum frame_block { FRAME_BLOCK_SMALL = 128, FRAME_BLOCK_LARGE = 1024 };

struct frame {
	unsigned long long span_id; /* of the stream: the same for all its frames, never 0 */
	unsigned long long conn;    /* connection.id of this end */
	unsigned long long t;       /* CLOCK_MONOTONIC ns: when the call that moved its first byte began */
	unsigned long long t_end;   /* when its last byte had been moved */
	unsigned long long unit;    /* UNIT() that moved it; 0: the thread */
	unsigned long long cause;   /* client, HEADERS of a request: as in an exchange */
	unsigned long long after;   /* as in an exchange, at this frame; HEADERS */
	unsigned long long bytes;   /* payload of the frame or frames, without padding where that is known */
	unsigned int tgid;
	unsigned int tid;
	unsigned int stream; /* 0: the connection */
	unsigned int n;      /* ordinal of this record in its direction, from 0: gaps are losses */
	unsigned int flags;  /* enum exchange_flags */
	unsigned int error;  /* RST_STREAM: error code */
	unsigned short cap;  /* bytes of block[] that are valid */
	unsigned char kind;  /* enum frame_kind */
	unsigned char bits;  /* enum frame_bits */
	unsigned int unused;
};

/* Places where something can be lost; index into the `losses` map and label of the metric. */
enum loss {
	LOSS_RING_FULL_EXCHANGE, /* an exchange did not fit into its ring */
	LOSS_RING_FULL_CONNECTION,
	LOSS_RING_FULL_PROCESS,
	LOSS_NO_STATE,         /* no memory for a connection's state */
	LOSS_NO_PAYLOAD_STATE, /* no memory for its payload */
	LOSS_PAYLOAD_FAULT,    /* the user's buffer could not be read (page not present) */
	LOSS_PEER_TABLE_FULL,
	LOSS_TLS_UNBOUND, /* plaintext whose socket is not known */
	LOSS_TLS_STATE_FULL,
	LOSS_NO_THREAD_STATE,  /* no memory for a thread's state: its messages have no payload and no cause */
	LOSS_QUERY_TABLE_FULL, /* a DNS question that could not be remembered */
	LOSS_RING_FULL_NAME,   /* the name that a TLS client asked for; tried again at its next message */
	LOSS_NAME_FAULT,       /* such a name that could not be read */
	LOSS_RING_FULL_LINEAGE,
	LOSS_RING_FULL_SEGMENT,
	LOSS_NO_ANCESTRY,      /* a unit's parent that could not be remembered */
	LOSS_RING_FULL_EXPORT, /* a part of what a process exports */
	LOSS_RING_FULL_FRAME,  /* a frame of HTTP/2 */
	LOSS_RING_FULL_HEAP,   /* where a thread of a JVM allocated */
	LOSS_FRAME_SYNC,       /* a direction of an HTTP/2 connection of which frames cannot be told apart any more */
	LOSS_KINDS,
};

/* Records as they lie in a ring, one size per ring. */
struct record_head {
	struct exchange exchange;
};
struct record_small {
	struct exchange exchange;
	unsigned char request[REQUEST_SMALL];
	unsigned char response[RESPONSE_SMALL];
};
struct record_large {
	struct exchange exchange;
	unsigned char request[REQUEST_LARGE];
	unsigned char response[RESPONSE_LARGE];
};
struct frame_head {
	struct frame frame;
};
struct frame_small {
	struct frame frame;
	unsigned char block[FRAME_BLOCK_SMALL];
};
struct frame_large {
	struct frame frame;
	unsigned char block[FRAME_BLOCK_LARGE];
};
