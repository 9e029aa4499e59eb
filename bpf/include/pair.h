/* Requests and their responses.
 *
 * Theory of operation. Each end of a connection is in one of four phases:
 *
 *   IDLE      nothing in progress
 *   REQUEST   request bytes were seen; more of them extend the request
 *   RESPONSE  response bytes were seen; more of them extend the response
 *   REPORTED  the same, and the exchange was already sent as PARTIAL; more response bytes lead to an amendment
 *
 * A byte in the request's direction after a response ends the exchange and begins the next. So does nothing else but the
 * close, the sweep of idle connections (sends PARTIAL) and the timeout of unanswered requests. This pairs every protocol
 * in which the two sides take turns, pipelined batches included, without knowing the protocol; three exceptions are
 * known here because they would be paired wrongly: of HTTP interim (1xx) responses, and a body that arrives after an
 * early response; of MySQL the command that closes a statement, which is not answered. What the bytes mean is for user
 * space.
 */
#pragma once

#include "emit.h"
#include "http2.h"
#include "peer.h"
#include "unit.h"
#include "user.h"

/* RFC 8446 §5.1: type 20…23, legacy_record_version 3.1…3.4, length. A MySQL packet of 788 bytes begins 14 03 00, one of
 * 66,324 14 03 01: it takes the length to tell. change_cipher_spec has 1 byte and an alert 2; what is encrypted (RFC 5246
 * §6.2.3: at least its MAC) and hellos have more than 16. */
static __always_inline bool is_tls(const u8 *b)
{
	if (b[0] < 20 || b[0] > 23 || b[1] != 3 || !b[2] || b[2] > 4)
		return false;
	u32 len = (u32)b[3] << 8 | b[4];
	return len <= 16384 + 2048 && (len > 16 || (b[0] == 20 && len == 1) || (b[0] == 21 && len == 2));
}

static __always_inline bool is_interim(const u8 *b) /* RFC 9110 §15.2: 100, 102, 103; 101 is final */
{
	return b[0] == 'H' && b[1] == 'T' && b[2] == 'T' && b[3] == 'P' && b[8] == ' ' && b[9] == '1' && b[10] == '0' &&
	       b[11] != '1';
}

static __always_inline bool is_switch(const u8 *b) /* RFC 9110 §15.2.2 */
{
	return b[0] == 'H' && b[1] == 'T' && b[2] == 'T' && b[3] == 'P' && b[8] == ' ' && b[9] == '1' && b[10] == '0' &&
	       b[11] == '1';
}

enum { CONTINUE = 25 }; /* bytes of "HTTP/1.1 100 Continue\r\n\r\n", which all servers send as it is */

/* An interim response in one piece with what comes after it. */
static __always_inline bool more_follows(const u8 *b, u32 len)
{
	return len > CONTINUE && b[CONTINUE - 4] == '\r' && b[CONTINUE - 1] == '\n' && b[CONTINUE] == 'H';
}

/* A method with a request body: POST, PUT, PATCH. */
static __always_inline bool has_body(const u8 *b)
{
	if (b[0] != 'P')
		return false;
	return (b[1] == 'O' && b[2] == 'S' && b[3] == 'T' && b[4] == ' ') ||
	       (b[1] == 'U' && b[2] == 'T' && b[3] == ' ') ||
	       (b[1] == 'A' && b[2] == 'T' && b[3] == 'C' && b[4] == 'H' && b[5] == ' ');
}

/* The beginning of a request line, or of a part of one: a method, which is in capitals. */
static __always_inline bool begins_request(const u8 *b, u32 len)
{
	for (u32 i = 0; i < 8; i++) {
		if (i >= len)
			return true;
		if (b[i] == ' ')
			return i >= 3;
		if (b[i] < 'A' || b[i] > 'Z')
			return false;
	}
	return false;
}

static __always_inline void encrypted(struct conn *c, struct thread *t)
{
	c->tls = 1;
	if (t) /* a hello was no request */
		settle_request(c, t);
	if (c->phase == REQUEST || c->phase == RESPONSE)
		count(STAT_ENCRYPTED, 1);
	c->phase = IDLE;
	if (!(c->k.flags & CONNECTION_TLS)) {
		c->k.flags |= CONNECTION_TLS;
		c->changed = 1;
	}
}

/* What was sent goes on, and is to be sent again. */
static __always_inline void reopen(struct conn *c)
{
	c->unsent = (u64)c->x.n + 1;
	count(STAT_REOPENED, 1);
}

/* Before a connection's phase is looked at: what has the sweep done with its exchange? */
static __always_inline void heed_sweep(struct conn *c)
{
	if (c->unsent || (c->phase != REQUEST && c->phase != RESPONSE))
		return;
	if (c->phase == REQUEST) {
		c->phase = IDLE;
		return;
	}
	c->x.flags |= EXCHANGE_PARTIAL | (c->k.peer ? EXCHANGE_PEER : 0);
	if (c->x.t_rsp_end == c->swept)
		c->phase = REPORTED;
	else /* it went on just then */
		reopen(c);
}

/* Whether there is an exchange in progress that is to be sent; it is the caller's then. */
static __always_inline bool take_exchange(struct conn *c, bool modern)
{
	heed_sweep(c);
	if (c->phase != REQUEST && c->phase != RESPONSE)
		return false;
	if (claim(c, (u64)c->x.n + 1, modern))
		return true;
	heed_sweep(c); /* the sweep took it just now */
	return c->phase == RESPONSE && claim(c, (u64)c->x.n + 1, modern);
}

static __always_inline void end_exchange(struct conn *c, struct payload *p, u64 now, u32 flags, bool modern)
{
	if (!take_exchange(c, modern)) {
		c->phase = IDLE;
		return;
	}
	if (c->phase == REQUEST) {
		c->x.t_rsp_end = now; /* so long it was waited for */
		if (p && !c->head)    /* of the answer before */
			__builtin_memset(p->response, 0, RESPONSE_SMALL);
		emit(c, p, now, flags | EXCHANGE_UNANSWERED, false, modern);
	} else {
		emit(c, p, now, flags | (c->x.flags & EXCHANGE_PARTIAL ? EXCHANGE_AMENDS : 0), false, modern);
	}
	c->phase = IDLE;
}

static __always_inline void begin_request(struct conn *c, struct payload *p, struct thread *t, const struct message *m)
{
	struct exchange *x = &c->x;

	c->unsent = 0; /* until it is whole */
	barrier();
	x->span_id = span_of(c->k.id, c->n);
	x->conn = c->k.id;
	x->t_req = m->begun;
	x->t_req_end = m->now;
	x->t_rsp = x->t_rsp_end = 0;
	x->cause = 0;
	x->after = x->unit_req = x->unit_rsp = 0;
	x->tid_req = (u32)m->task;
	x->tid_rsp = 0;
	x->req_bytes = x->rsp_bytes = 0;
	x->tgid = m->task >> 32;
	x->seq_req = m->seq;
	x->seq_rsp = 0;
	x->n = c->n++;
	x->flags = (c->client ? 0 : EXCHANGE_SERVER) | (c->k.peer ? EXCHANGE_PEER : 0) |
		   (c->k.flags & CONNECTION_MIDSTREAM ? EXCHANGE_MIDSTREAM : 0);
	x->req_cap = x->rsp_cap = 0;
	c->interim = 0;
	c->told = 0;
	c->phase = REQUEST;
	barrier();
	c->unsent = (u64)x->n + 1;
	count(STAT_BEGUN, 1);
	if (c->head)
		x->flags |= EXCHANGE_HEAD;
	else if (p)
		__builtin_memset(p->request, 0, REQUEST_SMALL);
	if (!t)
		return;
	x->unit_req = t->unit;
	if (c->client) {
		x->cause = only_request(t, &x->flags);
		x->after = t->received;
		if (!x->n && c->k.flags & CONNECTION_BORN) {
			x->after = c->k.birth_after;
			if (c->k.birth_unit >> 56 == UNIT_ASYNC) /* what runs when it is there is its own */
				x->unit_req = c->k.birth_unit;
			x->flags |= EXCHANGE_BORN | (c->succeeds ? EXCHANGE_SUCCEEDS : 0);
		}
		if (c->epoll)
			x->flags |= EXCHANGE_EPOLL;
	} else if (!c->paired) { /* a word between relatives (nginx's master to its workers) is seldom answered */
		open_request(t, x->span_id);
		c->open = 1;
	}
}

static __always_inline void extend_request(struct conn *c, struct payload *p, struct thread *t, const struct message *m,
					   bool modern)
{
	struct exchange *x = &c->x;

	x->t_req_end = m->now;
	if (!c->head && p && x->req_cap == x->req_bytes) { /* no hole before it */
		u32 have = x->req_cap;
		if (have < REQUEST_LARGE)
			x->req_cap = copy_in(p->request, have, REQUEST_LARGE, &m->from, m->len, t, modern);
		if (!x->req_cap) {
			x->flags |= EXCHANGE_NO_REQUEST;
			if (m->from.base || m->from.vector)
				lose(LOSS_PAYLOAD_FAULT);
		}
	}
	x->req_bytes += m->len;
	c->tid = (u32)m->task;
	if (t)
		c->events = t->events;
}

static __always_inline void begin_response(struct conn *c, struct payload *p, struct thread *t, const struct message *m)
{
	struct exchange *x = &c->x;
	u32 tid = (u32)m->task;

	c->phase = RESPONSE;
	x->t_rsp = m->begun;
	x->tid_rsp = tid;
	x->seq_rsp = m->seq;
	if (!c->head && p)
		__builtin_memset(p->response, 0, RESPONSE_SMALL);
	if (!t)
		return;
	x->unit_rsp = t->unit;
	if (!c->client)
		x->after = t->received;
	if (c->client) {
		if (tid != c->tid || t->events != c->events + 1)
			x->flags |= EXCHANGE_DISTURBED;
		if (c->epoll) /* looked at only now: who waits for the response has the socket in its set by now */
			x->flags |= EXCHANGE_EPOLL;
	} else if (tid == x->tid_req) {
		settle_request(c, t);
		t->answering = x->span_id;
	}
}

static __always_inline void extend_response(struct conn *c, struct payload *p, struct thread *t,
					    const struct message *m, bool modern)
{
	struct exchange *x = &c->x;

	if (!c->head && p && x->rsp_cap == x->rsp_bytes) {
		u32 have = x->rsp_cap;
		if (have < RESPONSE_LARGE)
			x->rsp_cap = copy_in(p->response, have, RESPONSE_LARGE, &m->from, m->len, t, modern);
		if (!x->rsp_cap)
			x->flags |= EXCHANGE_NO_RESPONSE;
	}
	x->rsp_bytes += m->len;
	barrier();
	x->t_rsp_end = m->now; /* by this the sweep's copy shows whether it has what is above */
	if (c->phase == REPORTED) {
		c->phase = RESPONSE;
		reopen(c);
	}
}

/* Is this the rest of a body whose request was answered early? Reads the user's first bytes only where one is due. */
static __always_inline bool is_late_body(const struct conn *c, const struct message *m)
{
	u64 at = m->from.base, len = m->len;
	struct user_iovec v;
	u8 first[8] = {};

	if (!c->body)
		return false;
	if (!at && m->from.buffers && !bpf_probe_read_user(&v, sizeof(v), (void *)m->from.vector)) {
		at = v.base;
		len = v.len < len ? v.len : len;
	}
	if (len > sizeof(first))
		len = sizeof(first);
	/* Bytes that cannot be read (sendfile, splice) are a body's: no request begins with them. */
	return !at || bpf_probe_read_user(first, len, (void *)at) || !begins_request(first, len);
}

enum { STATEMENT_CLOSE = 9 }; /* bytes of COM_STMT_CLOSE: length 5, sequence 0, 0x19, id of the statement (4) */
static __always_inline bool closes_statement(const u8 *b)
{
	return b[0] == 5 && !b[1] && !b[2] && !b[3] && b[4] == 0x19;
}

/* How many bytes of the message, from its first, are no request: they close a statement, and what follows, then or after
 * a pause, is for somebody else. Reads the user's bytes only where the server had spoken first, as MySQL's does. */
static __always_inline u32 not_answered(const struct conn *c, const struct message *m)
{
	u8 b[5];

	if (!c->greets || m->len < STATEMENT_CLOSE || !m->from.base ||
	    bpf_probe_read_user(b, sizeof(b), (void *)m->from.base))
		return 0;
	return closes_statement(b) ? STATEMENT_CLOSE : 0;
}

/* The same, where it came in pieces (a server reads the length first) and a request was begun. */
static __always_inline bool was_not_answered(struct conn *c, const struct payload *p, struct thread *t)
{
	if (!c->greets || c->x.req_bytes != STATEMENT_CLOSE || !closes_statement(p->request))
		return false;
	count(STAT_ENDED, 1);
	c->phase = IDLE;
	if (t)
		settle_request(c, t);
	return true;
}

static __always_inline void take_back_response(struct conn *c, struct thread *t)
{
	struct exchange *x = &c->x;

	c->interim += x->rsp_bytes;
	if (c->phase == REPORTED)
		reopen(c);
	c->phase = REQUEST;
	x->t_rsp = x->t_rsp_end = x->rsp_bytes = x->rsp_cap = 0;
	if (t && t->answering == x->span_id) { /* begin_response() took it for answered */
		open_request(t, x->span_id);
		c->open = 1;
	}
}

/* An interim response (RFC 9110 §15.2) is no answer yet: the request goes on. */
static __always_inline void pass_interim(struct conn *c, struct payload *p, struct thread *t, const struct message *m)
{
	struct exchange *x = &c->x;

	if (m->from.base && more_follows(p->response, m->len)) {
		u32 rest = m->len - CONTINUE;
		__builtin_memset(p->response, 0, RESPONSE_SMALL);
		x->rsp_cap = copy_bytes(p->response, 0, RESPONSE_LARGE, m->from.base + CONTINUE, rest);
		x->rsp_bytes = rest;
		x->seq_rsp += CONTINUE;
		c->interim += CONTINUE;
		return;
	}
	take_back_response(c, t);
}

/* The same at an end that sees no payload: what its peer noted. Returns false when all of the message was interim. */
static __always_inline bool skip_noted(struct conn *c, struct message *m)
{
	u32 interim = noted(c) & ~NOTE_BODY;
	u32 skip = interim > c->interim ? interim - c->interim : 0;

	if (skip > m->len)
		skip = m->len;
	c->interim += skip;
	m->seq += skip;
	m->len -= skip;
	return m->len;
}

/* The peer noted only after its bytes were here that they were no answer. */
static __always_inline bool noted_late(const struct conn *c)
{
	return c->head && c->phase == RESPONSE && (noted(c) & ~NOTE_BODY) >= c->interim + c->x.rsp_bytes;
}

/* A greeting or a push; or the answer to a request that was on its way before we looked, and what that was the thread
 * knows better than we. */
static __always_inline void on_unsolicited(struct conn *c, struct thread *t, const struct message *m)
{
	count(STAT_UNSOLICITED, 1);
	if (!c->n)
		c->greets = 1;
	if (t && !m->send)
		t->received = 0;
	if (c->client || c->n || !(c->k.flags & CONNECTION_MIDSTREAM) || c->k.flags & CONNECTION_UNSEEN)
		return;
	c->k.flags |= CONNECTION_UNSEEN;
	c->changed = 1;
	announce(c, m->now);
}

/* Is this where the connection begins to speak HTTP/2? The message in hand is then the first that is walked. */
static __always_inline bool begins_http2(struct conn *c, const struct payload *p, struct thread *t,
					 const struct message *m)
{
	const struct exchange *x = &c->x;
	u32 before = x->req_bytes - m->len;

	if (c->phase == REQUEST) {
		if (x->req_cap < PREFACE || before >= PREFACE || !is_preface(p->request))
			return false;
		start_http2(c, t);
		follow_from_here(&c->h2.requests, PREFACE - before);
		if (c->n == 1) /* else after an upgrade: the server may have begun before */
			follow_from_here(&c->h2.responses, 0);
		return true;
	}
	/* A server need not wait for the preface. */
	if (x->rsp_bytes != m->len || x->rsp_cap < FRAME_HEADER || x->req_bytes >= PREFACE ||
	    !is_settings(p->response) || !begins_preface(p->request, x->req_bytes))
		return false;
	u32 left = PREFACE - x->req_bytes;
	start_http2(c, t);
	follow_from_here(&c->h2.requests, left);
	follow_from_here(&c->h2.responses, 0);
	return true;
}

/* Where the head of "101 Switching Protocols" ends, and whether it is HTTP/2 to which is switched. */
struct upgrade {
	const struct payload *p;
	u32 end;
	u32 to_http2;
};

static long look_for_upgrade(u32 i, void *context)
{
	struct upgrade *u = context;
	const u8 *b = u->p->response + (i & (RESPONSE_LARGE - 1));

	if (b[0] == 'h' && b[1] == '2' && b[2] == 'c')
		u->to_http2 = 1;
	if (b[0] != '\r' || b[1] != '\n' || b[2] != '\r' || b[3] != '\n')
		return 0;
	u->end = i + 4;
	return 1;
}

/* RFC 7540 §3.2: the exchange ends with this head, behind which the server's frames begin, and the client's next words are
 * the preface. Without bpf_loop it is seen then. */
static __always_inline bool upgrades_to_http2(struct conn *c, struct payload *p, struct thread *t,
					      const struct message *m, bool modern)
{
	struct exchange *x = &c->x;
	struct upgrade u = { .p = p };

	if (!modern || x->rsp_bytes != m->len || !is_switch(p->response))
		return false;
	bpf_loop(x->rsp_cap < RESPONSE_LARGE ? x->rsp_cap : RESPONSE_LARGE, look_for_upgrade, &u, 0);
	if (!u.to_http2 || !u.end || u.end > x->rsp_cap)
		return false;
	x->rsp_bytes = x->rsp_cap = u.end;
	end_exchange(c, p, m->now, 0, modern);
	start_http2(c, t);
	follow_from_here(&c->h2.requests, PREFACE);
	follow_from_here(&c->h2.responses, u.end);
	return true;
}

/* The same of a server's first words. */
static __always_inline bool greets_in_http2(struct conn *c, struct thread *t, const struct message *m)
{
	u8 first[FRAME_HEADER];

	if (c->n || m->send == (c->client != 0) || c->k.flags & CONNECTION_MIDSTREAM || !read_first(first, m) ||
	    !is_settings(first))
		return false;
	start_http2(c, t);
	follow_from_here(&c->h2.requests, PREFACE);
	follow_from_here(&c->h2.responses, 0);
	return true;
}

/* One message on one end of a connection. p: NULL when the peer's record carries the payload. Returns whether its frames are
 * to be walked. */
static __always_inline bool pair_message(struct conn *c, struct payload *p, struct thread *t, struct message *m,
					 bool modern)
{
	if (m->send == (c->client != 0)) {
		if (c->phase != REQUEST) {
			if (c->phase == IDLE || !is_late_body(c, m)) {
				end_exchange(c, p, m->now, 0, modern);
				if (t) /* it may have had no answer */
					settle_request(c, t);
				u32 skip = not_answered(c, m);
				m->from.base += skip;
				m->seq += skip;
				m->len -= skip;
				if (!m->len)
					return false;
				begin_request(c, p, t, m);
			} else if (noted_late(c)) {
				take_back_response(c, t);
			} else {
				c->x.req_bytes += m->len;
				c->x.t_req_end = m->now;
				return false;
			}
		}
		extend_request(c, p, t, m, modern);
		if (!c->head && p && was_not_answered(c, p, t))
			return false;
		if (t && !m->send)
			t->received = c->x.span_id;
		if (!c->head && p) {
			if (is_tls(p->request)) {
				encrypted(c, t);
				return false;
			}
			if (begins_http2(c, p, t, m))
				return true;
			c->body = has_body(p->request);
			if (c->body && !c->client && c->k.peer)
				note(c, NOTE_BODY);
		}
		return false;
	}
	if (c->phase == IDLE) {
		if (greets_in_http2(c, t, m))
			return true;
		on_unsolicited(c, t, m);
		return false;
	}
	if (c->phase == REQUEST) {
		if (c->head && !skip_noted(c, m))
			return false;
		begin_response(c, p, t, m);
	}
	extend_response(c, p, t, m, modern);
	if (t && !m->send)
		t->received = c->x.span_id;
	if (c->head || !p)
		return false;
	if (is_tls(p->response)) {
		encrypted(c, t);
		return false;
	}
	if (begins_http2(c, p, t, m) || upgrades_to_http2(c, p, t, m, modern))
		return true;
	if (c->x.rsp_bytes == m->len && is_interim(p->response)) {
		pass_interim(c, p, t, m);
		if (!c->client && c->k.peer)
			note(c, (c->body ? NOTE_BODY : 0) | c->interim);
	}
	return false;
}

static __always_inline void on_message_here(struct conn *c, struct payload *p, struct thread *t, struct message *m,
					    bool modern)
{
	if (t)
		t->events++;
	if (!modern) { /* frames are walked where the stack is not that deep: see frames_before */
		if (!c->h2.on)
			pair_message(c, p, t, m, false);
		return;
	}
	if ((c->h2.on || may_be_http2(c, t)) && walk_message_global(c, t, m))
		return;
	if (pair_message(c, p, t, m, true))
		walk_message_global(c, t, m);
}

#define SLOW_NS 3000000000ull
static __always_inline void keep_open(u32 tgid, u64 since, u64 now)
{
	struct open_since fresh = { since, now - since < SLOW_NS ? since : ~0ull, now };
	struct open_since *o = bpf_map_lookup_elem(&requests_open, &tgid);

	if (!o) { /* user space takes away what it has read, after every sweep */
		bpf_map_update_elem(&requests_open, &tgid, &fresh, BPF_ANY);
		return;
	}
	if (since < o->t)
		o->t = since;
	if (fresh.recent < o->recent)
		o->recent = fresh.recent;
	o->seen = now;
}

__noinline int emit_copy_global(struct conn *c, struct exchange *x, struct payload *p, u64 now, u32 flags)
{
	if (c && x)
		emit_here(c, x, p, now, flags, true, false, true);
	return 0;
}

/* Run over all connections by user space, some times a second while any exchange is in progress. Of a connection it writes
 * nothing that its thread, which may be using it just now, writes too: see heed_sweep(). */
static __always_inline void sweep(struct conn *c, struct payload *p, u64 now, bool modern)
{
	/* Before all else, as what is copied may be changing. */
	u64 unsent = *(volatile u64 *)&c->unsent, answer = *(volatile u64 *)&c->x.t_rsp_end;
	barrier();
	u8 phase = c->phase;
	struct exchange x = c->x;
	bool answered = phase == RESPONSE && answer && (s64)(now - answer) > (s64)config.idle_ns;
	bool given_up = phase == REQUEST && (s64)(now - x.t_req_end) > (s64)config.timeout_ns;
	u32 flags;

	if ((phase != REQUEST && phase != RESPONSE) || unsent != (u64)x.n + 1)
		return;
	if (!c->client && !answered)
		keep_open(x.tgid, x.t_req, now);
	if (!answered && !given_up)
		return;
	find_server_late(c, &x, answered);
	if (answered) {
		c->swept = x.t_rsp_end = answer;
		flags = EXCHANGE_PARTIAL | (x.flags & EXCHANGE_PARTIAL ? EXCHANGE_AMENDS : 0);
	} else {
		x.t_rsp_end = now;
		flags = EXCHANGE_UNANSWERED;
	}
	if (modern)
		emit_copy_global(c, &x, p, now, flags);
	else
		emit_here(c, &x, p, now, flags, true, false, false);
}

__noinline int on_message_global(struct conn *c, struct payload *p, struct thread *t, struct message *m)
{
	if (c && m)
		on_message_here(c, p, t, m, true);
	return 0;
}

static __always_inline void on_message(struct conn *c, struct payload *p, struct thread *t, struct message *m,
				       bool modern)
{
	if (modern)
		on_message_global(c, p, t, m);
	else
		on_message_here(c, p, t, m, false);
}

/* Around all that leads to on_message, without sock_*_length: returns whether the message was one of frames, and the first
 * of its connection that was seen to be. */
static __always_inline bool frames_before(struct conn *c, struct thread *t, struct message *m)
{
	if (c->h2.on || !may_be_http2(c, t) || !walk_message_apart(c, t, m))
		return false;
	t->events++;
	return true;
}

static __always_inline void frames_after(struct conn *c, struct thread *t, struct message *m)
{
	if (c->h2.on && !c->ignored)
		walk_message_apart(c, t, m);
}
