/* The two ends of a TCP connection on this host find each other once, by the connection's key (see sight.h), which no
 * address translation changes. The client's end makes an entry when it is connected (if it was seen then, else at its first
 * send); the server's end finds it at its first receive, which is later, or at its response, and says that it is observed
 * and has the payload. The entry dies with the client's socket. A unix socket simply names its peer. */
#pragma once

#include "state.h"

struct ends {
	u64 client;  /* connection id; HIDDEN for the agent's own */
	u64 server;  /* 0 until found */
	u32 seq;     /* of the client's first byte */
	u32 payload; /* the server's end has read one */
	u64 gone;    /* when the client gave up before the server has read anything; 0: it is there */
};
enum { HIDDEN = 0, TRIES = 4, NEAR = 1 << 24 };

/* Owner: the client's connection; what a client leaves for a server that is late, the server's, or the sweep's. */
TABLE(local_ends, u64, struct ends, 65536);

/* What the server's end, which sees payload, tells the client's end, which does not: of the request that begins at `seq`,
 * whether a body may come after its response, and how many bytes of interim responses were sent. Connections that share
 * a place overwrite each other: then an exchange with an early or interim response is two at the client's end. */
enum { NOTES = 1 << 16, NOTE_BODY = 1u << 31 };
struct note {
	u32 seq;
	u32 what;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NOTES);
	__type(key, u32);
	__type(value, struct note);
} notes SEC(".maps");

static __always_inline u32 note_at(u64 client)
{
	return (client * 0x9e3779b97f4a7c15ull) >> 48;
}

static __always_inline void note(const struct conn *c, u32 what)
{
	u32 at = note_at(c->k.peer);
	struct note *n = bpf_map_lookup_elem(&notes, &at);

	if (n) {
		n->seq = c->x.seq_req;
		n->what = what;
	}
}

/* What the server's end noted of the request in progress; 0: nothing. */
static __always_inline u32 noted(const struct conn *c)
{
	u32 at = note_at(c->k.id);
	struct note *n = bpf_map_lookup_elem(&notes, &at);

	return n && n->seq == c->x.seq_req ? n->what : 0;
}

static __always_inline void set_peer(struct conn *c, u64 peer)
{
	c->k.peer = peer;
	c->changed = 1;
}

/* What is known of the other end of a unix socket; NULL: nothing, or an entry left by a socket that was there before. */
static __always_inline struct conn *unix_peer(struct sock *sk, bool storage)
{
	if (storage) {
		struct unix_sock *u = bpf_skc_to_unix_sock(sk);
		struct sock *other = u ? u->peer : 0;
		return other ? bpf_sk_storage_get(&conns, other, 0, 0) : 0;
	}
	struct unix_sock *u = (void *)sk;
	struct sock *other = BPF_CORE_READ(u, peer);
	u64 key = (u64)other;
	struct conn *o = other ? bpf_map_lookup_elem(&conns_by_sock, &key) : 0;
	return o && o->ino == BPF_CORE_READ(other, sk_socket, file, f_inode, i_ino) ? o : 0;
}

/* Each end of a unix socket gets to know the other when the second of them is seen. */
static __always_inline void meet_unix_peer(struct conn *c, struct sock *sk, bool storage)
{
	struct conn *o = unix_peer(sk, storage);

	if (!o || !o->k.id)
		return;
	set_peer(c, o->k.id);
	if (o->k.peer != c->k.id)
		set_peer(o, c->k.id);
}

/* Client: make the entry. seq: of the first byte that it will send, or has sent. */
static __always_inline void list_client(struct conn *c, u64 client, u32 seq)
{
	struct ends e = { .client = client, .seq = seq };
	u64 key = c->k.key;

	c->listed = 1;
	if (key && bpf_map_update_elem(&local_ends, &key, &e, BPF_ANY))
		lose(LOSS_PEER_TABLE_FULL);
}

/* Client, before a request: has the server been found? */
static __always_inline void find_server(struct conn *c, u32 seq)
{
	u64 key = c->k.key;

	if (c->n >= TRIES)
		return;
	if (!c->listed)
		return list_client(c, c->k.id, seq);
	if (!c->n)
		return;
	struct ends *e = bpf_map_lookup_elem(&local_ends, &key);
	if (!e || !e->server)
		return;
	if (c->k.peer != e->server)
		set_peer(c, e->server);
	/* The first two may still turn into TLS (STARTTLS of databases): only then is the payload the peer's task. */
	c->head = e->payload && c->n >= 2;
}

/* Client, when an exchange ends before the next request could tell. x: that, or a copy of it. */
static __always_inline void find_server_late(struct conn *c, struct exchange *x, bool answered)
{
	u64 key = c->k.key;

	if (!c->client || c->k.peer || c->k.protocol != IPPROTO_TCP || c->n > TRIES || !c->n)
		return;
	struct ends *e = bpf_map_lookup_elem(&local_ends, &key);
	if (!e || !e->server)
		return;
	set_peer(c, e->server);
	x->flags |= EXCHANGE_PEER;
	if (e->payload && answered)
		x->flags |= EXCHANGE_HEAD;
}

static __always_inline void find_client(struct conn *c, u32 seq)
{
	u64 key = c->k.key;

	struct ends *e = bpf_map_lookup_elem(&local_ends, &key);
	if (!e)
		return;
	if (e->client == HIDDEN) {
		c->ignored = 1;
		if (c->phase == REQUEST)
			count(STAT_ENCRYPTED, 1);
		c->phase = IDLE;
		return;
	}
	if (seq - e->seq + NEAR > 2 * NEAR) /* not this connection's: its key came up twice */
		return;
	e->server = c->k.id;
	set_peer(c, e->client);
	if (e->gone)
		bpf_map_delete_elem(&local_ends, &key);
}

/* Server: its records carry the payload of both ends from now on, or do not after all. */
static __always_inline void vouch_payload(struct conn *c, bool can_read)
{
	u64 key = c->k.key;

	struct ends *e = bpf_map_lookup_elem(&local_ends, &key);
	if (e && e->server == c->k.id)
		e->payload = can_read;
}

/* The agent's own connection: the other end must not be reported either. */
static __always_inline void hide_peer(struct conn *c)
{
	if (c->k.protocol == IPPROTO_TCP && c->client)
		list_client(c, HIDDEN, 0);
}

static __always_inline void forget_ends(struct conn *c)
{
	u64 key = c->k.key;

	if (!c->listed)
		return;
	struct ends *e = bpf_map_lookup_elem(&local_ends, &key);
	if (!e)
		return;
	/* A server that is busy reads the request after its client has given up. */
	if (c->n && !c->x.t_rsp && !e->server && !c->ignored)
		e->gone = bpf_ktime_get_ns();
	else
		bpf_map_delete_elem(&local_ends, &key);
}

/* Is the socket watched by epoll? Its wait queue then holds an entry while nobody sleeps on it. */
static __always_inline bool in_epoll(struct sock *sk)
{
	struct socket_wq *wq = BPF_CORE_READ(sk, sk_wq);
	struct list_head *head = (void *)wq + bpf_core_field_offset(struct socket_wq, wait) +
				 bpf_core_field_offset(struct wait_queue_head, head);

	return wq && BPF_CORE_READ(head, next) != head;
}
