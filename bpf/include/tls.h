/* Plaintext of TLS libraries and the sockets that it travels on.
 *
 * A socket whose first bytes are TLS records is listed in tls_sockets; what its bytes mean is only known inside the
 * library (tls.bpf.c), which knows an SSL*, not a socket. The two meet on the thread: a library that does its own I/O
 * (socket BIO) moves the records inside the call; one that is fed (memory BIO: Python's asyncio, Node) is called by the
 * thread that just received the records, or that sends them next. Bound once, they stay bound until either is gone. */
#pragma once

#include "pair.h"
#include "peer.h"

struct tls_key {
	u64 ssl;
	u64 tgid;
};

/* A socket that carries TLS. Owner: the socket. */
struct tls_socket {
	struct connection k;
	struct tls_key bound; /* to this library connection; ssl 0: not yet */
	u32 n;                /* exchanges in plain text before */
	u32 sent;             /* sequence number behind the last byte that was written, read; 0: not known */
	u32 received;
	u8 client;
	u8 epoll;
};

/* A connection of the library: its exchanges in plaintext. Owner: the SSL*, and the socket that it is bound to. */
struct tls_conn {
	struct conn c; /* c.k.id 0: not bound */
	struct payload p;
	struct server_name asked; /* name[0] 0: for none */
	u64 t_told;               /* when user space was told of it, 0: not yet */
};

TABLE(tls_sockets, u64, struct tls_socket, 32768);
TABLE(tls_conns, struct tls_key, struct tls_conn, 16384);
/* Processes that have just begun a connection with TLS: user space looks for their library, and takes them out. */
TABLE(tls_met, u32, u32, 4096);

/* Before the exchange that it is for; again as often as the connection is announced. Apart, as both sides call it. */
static __noinline int tell_name(struct tls_conn *tls, u64 now)
{
	if (!tls->asked.name[0] || !tls->c.k.id || (tls->t_told && now < tls->t_told + config.announce_ns))
		return 0;
	tls->asked.conn = tls->c.k.id;
	if (bpf_ringbuf_output(&server_names, &tls->asked, sizeof(tls->asked), wakeup(&server_names, now >> 10)))
		lose(LOSS_RING_FULL_NAME);
	else
		tls->t_told = now;
	return 0;
}

static __always_inline bool bind_tls(const struct tls_key *key, u64 id)
{
	struct tls_conn *tls = bpf_map_lookup_elem(&tls_conns, key);
	struct tls_socket *s = bpf_map_lookup_elem(&tls_sockets, &id);

	if (!tls || !s || tls->c.k.id || s->bound.ssl)
		return false;
	s->bound = *key;
	tls->c.k = s->k;
	tls->c.greets = 1;
	tls->c.client = s->client;
	tls->c.epoll = s->epoll;
	tls->c.changed = 1;
	tls->c.n += s->n; /* one connection, one sequence of spans */
	tell_name(tls, bpf_ktime_get_ns());
	if (tls->c.phase == IDLE)
		return true;
	/* Its first request was written before the socket was known. */
	tls->c.x.conn = id;
	tls->c.x.n += s->n;
	tls->c.x.span_id = span_of(id, tls->c.x.n);
	tls->c.x.flags |= (s->client ? 0 : EXCHANGE_SERVER) | (s->k.peer ? EXCHANGE_PEER : 0);
	return true;
}
