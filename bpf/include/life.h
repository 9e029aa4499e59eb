/* Births and ends of TCP connections and their sockets. */
#pragma once

#include "process.h"
#include "stream.h"

/* Is this the last that will be sent or received? close() shuts both directions down before the state changes; TCP_CLOSE
 * may be far away then, as the other end has to close as well. */
static __always_inline bool is_finished(struct sock *sk, int new)
{
	if (new == TCP_CLOSE)
		return true;
	return new >= TCP_FIN_WAIT1 &&new != TCP_CLOSE_WAIT &&BPF_CORE_READ(sk, sk_shutdown) == SHUTDOWN_BOTH;
}

/* What has come and was not read can be read even when the connection is over. */
static __always_inline bool has_unread(struct sock *sk)
{
	struct tcp_sock *tp = (void *)sk;

	return BPF_CORE_READ(sk, sk_socket) && BPF_CORE_READ(tp, copied_seq) != BPF_CORE_READ(tp, rcv_nxt);
}

static __always_inline void finish(struct conn *c, struct sock *sk, bool storage)
{
	u64 now = bpf_ktime_get_ns();

	if (c->ignored)
		return;
	if (c->tls)
		close_tls_socket(c, EXCHANGE_LAST | c->reset, now, storage);
	find_server_late(c, &c->x, c->phase == RESPONSE);
	end_exchange(c, find_payload(sk, storage, false), now, EXCHANGE_LAST | c->reset, storage);
	close_http2(c, EXCHANGE_LAST | c->reset, now);
	/* Whoever closes it is mostly the thread that had its request open. */
	struct thread *t = known_thread(storage);
	if (!t)
		return;
	settle_request(c, t);
	if (c->client)
		t->closed = awake_since();
}

static __always_inline int on_finished(struct sock *sk, bool by_call, bool storage)
{
	struct conn *c = find_conn(sk, storage, false);
	int err = BPF_CORE_READ(sk, sk_err);

	if (!c)
		return 0;
	if (err == ECONNRESET || err == EPIPE)
		c->reset = EXCHANGE_RESET;
	if (has_unread(sk))
		return 0;
	if (storage && by_call)
		take_hidden(c, sk, 0, read_up_to(sk, true));
	finish(c, sk, storage);
	return 0;
}

/* The socket itself is gone, whatever its end was. */
static __always_inline int on_destroy(struct sock *sk, bool storage)
{
	struct conn *c = find_conn(sk, storage, false);

	if (!c)
		return 0;
	finish(c, sk, storage);
	forget_ends(c);
	if (!storage)
		drop_conn(sk);
	return 0;
}

static __always_inline int on_state(struct sock *sk, int new, bool storage)
{
	struct conn *c;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || is_elsewhere(sk))
		return 0;
	if (new == TCP_LISTEN) {
		tell_process(PROCESS_LISTENS);
		return 0;
	}
	if (new == TCP_SYN_SENT) { /* in connect(), so this thread is the one that wants the connection */
		c = find_conn(sk, storage, true);
		if (!c) {
			lose(LOSS_NO_STATE);
			return 0;
		}
		meet(c, sk, storage, BPF_CORE_READ(sk, __sk_common.skc_family), IPPROTO_TCP, true);
		c->k.key = 0; /* the other end's number comes with its answer */
		c->client = 1;
		c->k.flags &= ~CONNECTION_SERVER;
		struct thread *t = this_thread(storage);
		u32 doubts = 0;
		if (t)
			c->k.birth_cause = only_request(t, &doubts);
		if (doubts) /* of several, or of one that may be answered by now */
			c->k.birth_cause = 0;
		c->k.flags |= CONNECTION_BORN;
		if (t) {
			c->k.birth_after = t->received;
			c->succeeds = t->closed == awake_since();
			/* Go's net/http dials for one request and gives the connection to another. */
			if (runtime_of(t) != RUNTIME_GO)
				c->k.birth_unit = look_up_unit(t, c->k.id, true, true, storage);
		}
		return 0;
	}
	if (new == TCP_ESTABLISHED) {
		c = find_conn(sk, storage, false);
		if (!c || !c->client) /* an accepted one is met at its first message */
			return 0;
		read_addresses(&c->k, sk);
		c->k.key = connection_key(sk, true);
		list_client(c, c->ignored ? HIDDEN : c->k.id, written_up_to(sk, storage));
		return 0;
	}
	return is_finished(sk, new) ? on_finished(sk, new != TCP_CLOSE, storage) : 0;
}
