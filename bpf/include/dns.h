/* DNS over UDP. One socket asks many questions at once and serves many clients, so here the message says what belongs
 * together: id and question (RFC 1035 §4.1). Other datagrams are none of our business; a socket that speaks no DNS is
 * soon left alone. */
#pragma once

#include "emit.h"
#include "user.h"

enum { DNS_HEADER = 12, DNS_KEPT = RESPONSE_LARGE, DNS_QUESTION = 20, DNS_PATIENCE = 8, MDNS_PORT = 5353 };

struct query_key {
	u64 sock;
	u64 question; /* id, and hash of the question's first bytes */
};

/* A question without an answer yet. Owner: the exchange; user space ends and removes those that get none. */
struct query {
	struct exchange x;
	u8 request[DNS_KEPT];
};

struct datagram {
	u8 bytes[DNS_KEPT];
};

TABLE(queries, struct query_key, struct query, 8192);

/* Too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct query);
} query_scratch SEC(".maps");

static __always_inline bool is_dns(const u8 *b, u32 len)
{
	bool answer = b[2] & 0x80;
	u8 opcode = b[2] >> 3 & 15;

	if (len < DNS_HEADER + 5 || opcode > 5 || opcode == 3 || (b[3] & 0x40) || b[4] || b[5] != 1 ||
	    b[DNS_HEADER] > 63)
		return false;
	if (b[6] > 1 || b[8] > 1 || b[10])
		return false;
	return answer || !((b[3] & 15) | b[6] | b[7] | b[8] | b[9]);
}

static __always_inline u64 question_of(const u8 *b)
{
	u64 h = (u64)b[0] << 8 | b[1];

	for (int i = 0; i < DNS_QUESTION; i++) {
		u8 c = b[DNS_HEADER + i];
		if (c >= 'A' && c <= 'Z') /* resolvers randomise case */
			c += 'a' - 'A';
		h = (h ^ c) * 0x100000001b3ull;
		if (!c && i) /* the root label ends the name; what follows may differ (EDNS, answers) */
			break;
	}
	return mix64(h);
}

static __always_inline int on_datagram(struct conn *c, struct sock *sk, struct thread *t, const struct message *m)
{
	const struct source *from = &m->from;
	u64 now = m->now, id = m->task, at = from->base;
	u32 len = m->len;
	bool send = m->send;
	struct query_key key = { .sock = (u64)sk };
	struct user_iovec v;
	u32 zero = 0;
	u64 kept = len;

	if (!at && from->buffers && !bpf_probe_read_user(&v, sizeof(v), (void *)from->vector)) {
		at = v.base;
		kept = v.len < len ? v.len : len;
	}
	struct query *q = bpf_map_lookup_elem(&query_scratch, &zero);
	if (!q || !at)
		return 0;
	asm volatile("" : "+r"(kept));
	if (kept > DNS_KEPT)
		kept = DNS_KEPT;
	__builtin_memset(q->request, 0, DNS_HEADER + DNS_QUESTION);
	if (bpf_probe_read_user(q->request, kept, (void *)at) || !is_dns(q->request, kept)) {
		if (!c->n && ++c->body >= DNS_PATIENCE)
			c->ignored = 1;
		return 0;
	}
	if (c->k.local_port == MDNS_PORT || c->k.remote_port == MDNS_PORT) /* RFC 6762 §6: multicast, no one answer */
		return 0;
	key.question = question_of(q->request);
	if (!(q->request[2] & 0x80)) {
		struct exchange *x = &q->x;
		__builtin_memset(x, 0, sizeof(*x));
		x->conn = c->k.id;
		x->n = c->n++;
		x->span_id = span_of(x->conn, x->n);
		x->t_req = x->t_req_end = now;
		x->tgid = id >> 32;
		x->tid_req = (u32)id;
		x->seq_req = (u32)key.question;
		x->req_bytes = len;
		x->req_cap = kept;
		x->flags = send ? 0 : EXCHANGE_SERVER;
		if (t && send)
			x->cause = only_request(t, &x->flags);
		if (c->epoll)
			x->flags |= EXCHANGE_EPOLL;
		if (t)
			c->events = ++t->events;
		c->tid = (u32)id;
		if (bpf_map_update_elem(&queries, &key, q, BPF_ANY))
			lose(LOSS_QUERY_TABLE_FULL);
		announce(c, now);
		return 0;
	}
	struct query *asked = bpf_map_lookup_elem(&queries, &key);
	if (!asked || !(asked->x.flags & EXCHANGE_SERVER) == send)
		return 0;
	count(STAT_DATAGRAMS, 1);
	struct record_large *r = announce(c, now) ? bpf_ringbuf_reserve(&exchanges_large, sizeof(*r), 0) : 0;
	if (!r) {
		lose(LOSS_RING_FULL_EXCHANGE);
	} else {
		r->exchange = asked->x;
		r->exchange.t_rsp = r->exchange.t_rsp_end = now;
		r->exchange.tid_rsp = (u32)id;
		r->exchange.rsp_bytes = len;
		r->exchange.rsp_cap = kept;
		if (kept < len)
			r->exchange.flags |= EXCHANGE_RESPONSE_CUT;
		if (t && !send && (c->tid != (u32)id || t->events != c->events))
			r->exchange.flags |= EXCHANGE_DISTURBED;
		bpf_probe_read_kernel(r->request, DNS_KEPT, asked->request);
		bpf_probe_read_kernel(r->response, RESPONSE_LARGE, q->request);
		bpf_ringbuf_submit(r, wakeup(&exchanges_large, asked->x.span_id));
	}
	if (t)
		t->events++;
	bpf_map_delete_elem(&queries, &key);
	return 0;
}
