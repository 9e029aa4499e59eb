/* The socket's side of TLS (see tls.h): it is listed, tells the library's side on which thread its records move, and ends
 * the library's connection with itself. */
#pragma once

#include "tls.h"

enum { TLS_TRIES = 8 };

/* Apart, as it needs much stack. */
static __noinline int list_tls_socket(struct conn *c)
{
	struct tls_socket s = { .k = c->k, .client = c->client, .n = c->n };
	u32 tgid = c->k.tgid, one = 1;
	u64 id = c->k.id;

	if (bpf_map_update_elem(&tls_sockets, &id, &s, BPF_ANY))
		lose(LOSS_TLS_STATE_FULL);
	if (!bpf_map_lookup_elem(&tls_met, &tgid))
		bpf_map_update_elem(&tls_met, &tgid, &one,
				    BPF_ANY); /* when it is full there will be other connections */
	return 0;
}

/* TLS records moved on a socket. end: sequence number behind them. */
static __noinline int on_tls_records(struct conn *c, struct sock *sk, struct thread *t, bool send, u32 end)
{
	u64 id = c->k.id;
	struct tls_socket *s = bpf_map_lookup_elem(&tls_sockets, &id);

	if (s && send)
		s->sent = end;
	else if (s)
		s->received = end;
	if (c->events < TLS_TRIES) { /* of a TLS socket: messages so far */
		c->events++;
		if (s && c->client && !c->k.peer) {
			u64 key = c->k.key;
			struct ends *e = bpf_map_lookup_elem(&local_ends, &key);
			if (e && e->server)
				set_peer(c, e->server);
		}
		if (s) {
			s->k = c->k;
			s->epoll = in_epoll(sk);
		}
	}
	if (!t)
		return 0;
	if (t->ssl) { /* inside the library's call */
		if (!t->ssl_bound)
			t->tls_conn = id;
		return 0;
	}
	if (!send) {
		t->tls_conn = id; /* the next call of the library is about this one */
	} else if (t->tls_written) {
		struct tls_key key = { t->tls_written, bpf_get_current_pid_tgid() >> 32 };
		bind_tls(&key, id);
		t->tls_written = 0;
	}
	return 0;
}

/* The socket is closed: so is the library's connection. */
static __always_inline void close_tls_socket(struct conn *c, u32 flags, u64 now, bool modern)
{
	u64 id = c->k.id;
	struct tls_socket *s = bpf_map_lookup_elem(&tls_sockets, &id);

	if (!s)
		return;
	struct tls_key key = s->bound;
	bpf_map_delete_elem(&tls_sockets, &id);
	if (!key.ssl)
		return;
	struct tls_conn *tls = bpf_map_lookup_elem(&tls_conns, &key);
	if (!tls || tls->c.k.id != id)
		return;
	end_exchange(&tls->c, &tls->p, now, flags, modern);
	close_http2(&tls->c, flags, now);
	bpf_map_delete_elem(&tls_conns, &key);
}
