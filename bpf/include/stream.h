/* One message on one socket, whichever front tells of it. */
#pragma once

#include "dns.h"
#include "exports.h"
#include "sight.h"
#include "tls_socket.h"

enum { HTTP2_TRIES = 16 };
/* A message of a connection that speaks HTTP/2: both its ends are told of, and neither leaves payload to the other. */
static __always_inline void on_http2(struct conn *c, struct sock *sk, struct thread *t, struct message *m, bool storage)
{
	u32 n = c->h2.responses.n;

	if (!c->k.peer && c->h2.tries < HTTP2_TRIES && m->send == (c->client != 0)) {
		c->h2.tries++;
		if (c->k.protocol != IPPROTO_TCP)
			meet_unix_peer(c, sk, storage);
		else if (c->client)
			find_server(c, m->seq);
		else
			find_client(c, m->seq);
		c->head = 0;
	}
	if (c->ignored)
		return;
	if (c->client && !m->send && (!(n & (n - 1)) || !(n & 63)))
		c->epoll = in_epoll(sk);
	on_message(c, 0, t, m, storage);
}

enum { AT_ONCE = 8, AGAIN_NS = 10000000 };
static __always_inline void on_stream(struct conn *c, struct sock *sk, struct thread *t, struct message *m,
				      bool storage)
{
	bool tcp = c->k.protocol == IPPROTO_TCP;
	struct payload *p = 0;

	if (c->h2.on)
		return on_http2(c, sk, t, m, storage);
	if (!tcp) {
		if (!c->k.peer && c->n <= TRIES)
			meet_unix_peer(c, sk, storage);
		/* A client that writes before its server accepts has begun its request without knowing of it. */
		if (c->k.peer && c->phase == REQUEST)
			c->x.flags |= EXCHANGE_PEER;
		/* Who has shut down its sending reads what was left (PHP-FPM), which it cannot answer. */
		if (!m->send && !c->client && c->phase != REQUEST && BPF_CORE_READ(sk, sk_shutdown) & SEND_SHUTDOWN)
			return;
	} else if (c->client) {
		if (m->send && c->phase != REQUEST && !c->head) {
			find_server(c, m->seq);
			if (c->head)
				drop_payload(sk, storage);
		}
	} else if (!c->k.peer && c->n <= TRIES && m->send == (c->phase == REQUEST)) {
		/* Before a request begins; once more at its response: the client's send may be told after our receive. */
		find_client(c, m->send ? c->x.seq_req : m->seq);
		if (c->k.peer && c->phase == REQUEST)
			c->x.flags |= EXCHANGE_PEER;
		/* Who has shut down its sending reads what was left (PHP-FPM), which it cannot answer. */
		if (!m->send && !c->client && c->phase != REQUEST && BPF_CORE_READ(sk, sk_shutdown) & SEND_SHUTDOWN)
			return;
	}
	if (c->ignored)
		return;
	if (!c->head) {
		p = find_payload(sk, storage, true);
		if (!p)
			lose(LOSS_NO_PAYLOAD_STATE);
	}
	/* More often while it is young: some clients wait by epoll until they are connected, and block from then on. */
	if (c->client && !m->send && c->phase == REQUEST && (!(c->x.n & (c->x.n - 1)) || !(c->x.n & 63)))
		c->epoll = in_epoll(sk);
	on_message(c, p, t, m, storage);
	if (c->h2.on) {
		drop_payload(sk, storage);
		return;
	}
	if (tcp) {
		if (!c->client && c->k.peer && c->x.n < TRIES) {
			if (!m->send && c->x.req_cap)
				vouch_payload(c, true);
			else if (m->send && c->x.flags & EXCHANGE_NO_RESPONSE)
				vouch_payload(c, false);
		}
	} else if (c->phase == RESPONSE && (c->told < AT_ONCE || m->now - c->t_told > AGAIN_NS) &&
		   take_exchange(c, storage)) {
		/* That a unix socket is closed is not told when neither end reads its end of file. So what there is, is
		 * sent at once and amended, of long responses now and then. */
		emit(c, p, m->now, EXCHANGE_PARTIAL | (c->x.flags & EXCHANGE_PARTIAL ? EXCHANGE_AMENDS : 0), true,
		     storage);
		c->phase = REPORTED;
		c->told++;
		c->t_told = m->now;
	}
}

static __noinline int on_hidden(struct conn *c, struct sock *sk, struct thread *t, u32 len)
{
	struct message m = { .len = len, .seq = c->copied, .task = bpf_get_current_pid_tgid() };

	m.begun = m.now = bpf_ktime_get_ns();
	count(STAT_HIDDEN, len);
	on_stream(c, sk, t, &m, true);
	return 0;
}

/* What was received up to `seq`, since the last message, by splice or the like, for which there is no hook: its size is
 * right, its time too late. User space, when there are such bytes, attaches on_space_adjust, which then sees them in time.
 *
 * Where messages take turns, a send shows it: what had come before it was taken. In HTTP/2 another thread may just be
 * receiving, and its message is still to be told: there the next one that is received shows what lies before it. */
static __always_inline void take_hidden(struct conn *c, struct sock *sk, struct thread *t, u32 seq)
{
	u32 since = c->copied;

	if (c->tls || (since && (s32)(seq - since) <= 0))
		return;
	if (since)
		on_hidden(c, sk, t, seq - since);
	c->copied = seq;
}

/* Without sock_*_length the program is one piece, whose parts need a stack of their own. */
static __noinline int on_stream_apart(struct conn *c, struct sock *sk, struct thread *t, struct message *m)
{
	on_stream(c, sk, t, m, false);
	return 0;
}

static __noinline int on_datagram_apart(struct conn *c, struct sock *sk, struct thread *t, struct message *m)
{
	return on_datagram(c, sk, t, m);
}

static __noinline struct conn *first_sight_apart(struct sock *sk, bool send, u32 len)
{
	return first_sight(sk, false, send, len);
}

static __noinline int find_source_apart(struct source *from, struct thread *t, const struct syscall *call)
{
	find_source(from, t, call);
	return 0;
}

/* behind: bytes that the same call moved after this message; without sock_*_length only. */
static __always_inline int on_socket(struct sock *sk, struct message *m, bool storage, const struct syscall *call,
				     u32 behind)
{
	bool send = m->send;
	u32 ret = m->len;

	struct conn *c = find_conn(sk, storage, false);
	if (!c)
		c = storage ? first_sight(sk, true, send, ret) : first_sight_apart(sk, send, ret);
	if (!c)
		return 0;
	if (c->k.protocol == IPPROTO_TCP && !c->k.local_port) /* connect() picks the port after it told us */
		read_addresses(&c->k, sk);
	if (c->ignored) {
		if (send && !c->listed)
			hide_peer(c);
		return 0;
	}
	heed_sweep(c);
	/* One look at the task serves its storage, its ids and its registers. */
	struct task_struct *task = storage ? bpf_get_current_task_btf() : 0;
	struct thread *t = storage ? thread_of(task) : this_thread(false);
	struct syscall current;
	if (c->k.protocol == IPPROTO_TCP && send) {
		m->seq = written_up_to(sk, storage) - behind - ret;
		if (storage && !c->h2.on)
			take_hidden(c, sk, t, read_up_to(sk, true));
	} else if (c->k.protocol == IPPROTO_TCP) {
		u32 seq = read_up_to(sk, storage);
		m->seq = seq - behind - ret;
		if (storage && c->h2.on)
			take_hidden(c, sk, t, m->seq);
		c->copied = seq;
	}
	/* An end without payload looks at what it sends only where the rest of a body may follow an early response, or
	 * what closes a statement, which has none. */
	if (c->head && send && c->phase >= RESPONSE)
		c->body = noted(c) >> 31;
	bool exported = storage && send && !c->tls && exporting(c);
	if (t && (!c->head || (send && (c->body || c->greets)) || exported) && !c->tls) {
		if (!call) {
			read_syscall(&current, (void *)bpf_task_pt_regs(task), true);
			call = &current;
		}
		if (storage)
			find_source(&m->from, t, call);
		else
			find_source_apart(&m->from, t, call);
	}
	m->begun = m->now = bpf_ktime_get_ns();
	m->task = storage ? (u64)task->tgid << 32 | (u32)task->pid : bpf_get_current_pid_tgid();
	if (c->k.protocol == IPPROTO_UDP) {
		if (!c->epoll && !send)
			c->epoll = in_epoll(sk);
		return storage ? on_datagram(c, sk, t, m) : on_datagram_apart(c, sk, t, m);
	}
	if (exported && t)
		export_message(c, t, m);
	if (!c->tls) {
		if (t)
			meet_unit(t, c, send, storage);
		if (storage) {
			on_stream(c, sk, t, m, true);
		} else if (!frames_before(c, t, m)) {
			on_stream_apart(c, sk, t, m);
			frames_after(c, t, m);
		}
		if (t && !send)
			begin_segment(t);
		if (!c->tls)
			return 0;
		c->events = 0;
		if (c->k.protocol == IPPROTO_TCP) /* only its end is told */
			list_tls_socket(c);
	}
	count(STAT_TLS_BYTES, ret);
	on_tls_records(c, sk, t, send, m->seq + ret);
	return 0;
}

/* Nothing more to read, or nobody to write to: no tracepoint tells that a unix socket is closed, but its peer learns it.
 * Both directions must be shut down: after shutdown(SHUT_WR) an answer is still to come. */
static __always_inline void end_unix(struct sock *sk, bool storage)
{
	struct conn *c = find_conn(sk, storage, false);

	if (!c || c->k.family != AF_UNIX || c->ignored || BPF_CORE_READ(sk, sk_shutdown) != SHUTDOWN_BOTH)
		return;
	end_exchange(c, find_payload(sk, storage, false), bpf_ktime_get_ns(), EXCHANGE_LAST, storage);
	close_http2(c, EXCHANGE_LAST, bpf_ktime_get_ns());
	struct thread *t = known_thread(storage);
	if (t)
		settle_request(c, t);
}

static __always_inline int on_end(struct sock *sk, bool storage)
{
	struct unix_sock *u = (void *)sk;

	end_segment(known_thread(storage));
	if (BPF_CORE_READ(sk, __sk_common.skc_family) != AF_UNIX)
		return 0;
	end_unix(sk, storage);
	if (storage) {
		u = bpf_skc_to_unix_sock(sk);
		sk = u ? u->peer : 0;
	} else {
		sk = BPF_CORE_READ(u, peer);
	}
	if (sk)
		end_unix(sk, storage);
	return 0;
}
