/* Context on the wire, for those who ask for it: a request tells the other host by a TCP option in which trace it is, and
 * as which span (see wire.h).
 *
 * What is not known (trace.h says what is) is not sent. The programs:
 *
 *   tcp_sendmsg_locked   before bytes are queued: does a request begin, and what is its context?
 *   sockops              writes it into the segment that begins with these bytes, and reads it at the other host. That a
 *                        packet becomes longer than the path takes is impossible: full segments are left as they are
 *   sock_recv_length     after requests.bpf.c: settles the trace of a request that was received
 *   sock_send_length     after requests.bpf.c: marks the exchange, so that user space can see whether it came out so
 *   sched_process_*      forget what was known of the process */
#include "pair.h"
#include "sight.h"
#include "sock_ops.h"
#include "wire.h"

char LICENSE[] SEC("license") = "GPL";

struct arrived_context schema_arrived_context;
enum wire_stat schema_wire_stat;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct iov_iter {
	u8 iter_type;
	unsigned long iov_offset;
	union {
		const void *__iov;
		void *ubuf;
	};
};
struct msghdr {
	struct iov_iter msg_iter;
};
enum iter_type { ITER_UBUF, ITER_IOVEC };
#pragma clang attribute pop

enum { FIRST = 8 };
/* The first bytes that the caller sends; false: they cannot be had. */
static __always_inline bool first_bytes(const struct msghdr *msg, u8 first[FIRST])
{
	u8 type = msg->msg_iter.iter_type;
	u64 at = (u64)msg->msg_iter.ubuf;
	struct user_iovec v;

	if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC)) {
		if (bpf_probe_read_kernel(&v, sizeof(v), (void *)at))
			return false;
		at = v.base;
	} else if (type != bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		return false;
	}
	return !bpf_probe_read_user(first, FIRST, (void *)(at + msg->msg_iter.iov_offset));
}

/* Twice in a row a segment with an option had to be sent again: something on the way may not let it pass. */
enum { UNLUCKY = 2 };
static __always_inline bool is_deaf(const struct conn *c, struct wire *w, struct sock *sk)
{
	struct tcp_sock *tp = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
	u32 resent = tp->total_retrans, one = 1;
	struct address to;

	__builtin_memcpy(&to, c->k.remote, sizeof(to));
	if (w->told) {
		w->told = 0;
		w->unlucky = resent != w->resent ? w->unlucky + 1 : 0;
		if (w->unlucky >= UNLUCKY)
			bpf_map_update_elem(&deaf, &to, &one, BPF_ANY);
	}
	w->resent = resent;
	return bpf_map_lookup_elem(&deaf, &to);
}

static __always_inline bool is_http2(const u8 b[FIRST]) /* RFC 9113 §3.4 */
{
	return b[0] == 'P' && b[1] == 'R' && b[2] == 'I' && b[3] == ' ' && b[4] == '*';
}

SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(before_send, struct sock *sk, struct msghdr *msg)
{
	struct trace t = {};
	u8 first[FIRST] = {};

	if (is_elsewhere(sk) || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	struct conn *c = find_conn(sk, true, false);
	u32 seq = written_up_to(sk, true);
	if (!c || !c->k.id) { /* met when this was sent; its other end must not take its trace for its own */
		note_sent(connection_key(sk, connected_out(sk)), seq, &t);
		return 0;
	}
	if (!c->client || c->ignored || c->tls || c->h2.on || c->phase == REQUEST)
		return 0;
	struct wire *w = bpf_sk_storage_get(&wires, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	/* Once for each request: this is called for each part of it that is queued. */
	if (!w || w->foreign || (w->out_n == c->n + 1 && w->out_seq != seq))
		return 0;
	u64 span = span_of(c->k.id, c->n);
	w->out.span = 0;
	w->out_n = c->n + 1;
	w->out_seq = seq;
	if (!first_bytes(msg, first)) {
		note_sent(c->k.key, seq, &t);
		return 0;
	}
	if (is_tls(first))
		return 0;
	if (is_http2(first)) {
		w->foreign = 1;
		return 0;
	}
	struct thread *thread = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), 0, 0);
	u32 why = settle_call(thread, span, begins_request(first, FIRST), &t);
	if (c->k.peer || c->n <= TRIES) /* else its other end is on another host */
		note_sent(c->k.key, seq, &t);
	if (why != WIRE_KINDS)
		count_wire(why);
	if (why != WIRE_KINDS || c->k.peer)
		return 0;
	if (is_deaf(c, w, sk)) {
		count_wire(WIRE_DEAF);
		return 0;
	}
	w->out.trace[0] = t.id[0];
	w->out.trace[1] = t.id[1];
	barrier();
	w->out.span = span;
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(after_send, struct sock *sk, int ret, int flags)
{
	struct conn *c = ret > 0 ? find_conn(sk, true, false) : 0;

	if (!c || !c->client || c->phase != REQUEST)
		return 0;
	struct wire *w = bpf_sk_storage_get(&wires, sk, 0, 0);
	if (w && w->out.span == c->x.span_id)
		c->x.flags |= EXCHANGE_CARRIED;
	return 0;
}

/* ---- requests that are received ---- */

/* The context that came with the segment that begins at `seq`. The slot may be written meanwhile: then its span is 0, or
 * another one. */
static __always_inline bool came_with(const struct wire *w, u32 seq, struct context *found)
{
	for (int i = 0; i < ARRIVALS; i++) {
		const volatile struct arrival *a = &w->in[i];
		u64 span = a->context.span;
		if (!span || a->seq != seq)
			continue;
		found->trace[0] = a->context.trace[0];
		found->trace[1] = a->context.trace[1];
		found->span = span;
		barrier();
		return a->context.span == span && a->seq == seq;
	}
	return false;
}

enum head { HEAD_INCOMPLETE, HEAD_PLAIN, HEAD_DOUBTFUL };
/* Where a look at a request's header lines has got to. */
struct look {
	const struct payload *p;
	u32 len;
	enum head found;
};

/* What follows a line feed at i: goes on, or ends the look. */
static __always_inline long look_behind(struct look *l, u32 i)
{
	const u8 *b = l->p->request;
	u32 name;

	if (i + 5 > l->len) /* the line that begins here is not all there */
		return 1;
	/* The empty line: RFC 9112 §2.2 lets the carriage return be missing. */
	if (b[i + 1] == '\n' || (b[i + 1] == '\r' && b[i + 2] == '\n')) {
		l->found = HEAD_PLAIN;
		return 1;
	}
	__builtin_memcpy(&name, b + i + 1, sizeof(name));
	if (!may_be_context(name))
		return 0;
	l->found = HEAD_DOUBTFUL;
	return 1;
}

#define BYTES(B) (0x0101010101010101ull * (B))
static long look_at(u32 word, void *context)
{
	struct look *l = context;
	u32 i = word * 8 & (REQUEST_LARGE - 8);
	u64 bytes;

	__builtin_memcpy(&bytes, l->p->request + i, sizeof(bytes));
	u64 feeds = bytes ^ BYTES('\n'); /* a zero byte for each line feed */
	if (!((feeds - BYTES(1)) & ~feeds & BYTES(0x80)))
		return 0;
	for (u32 k = 0; k < 8; k++)
		if (l->p->request[i + k] == '\n' && look_behind(l, i + k))
			return 1;
	return 0;
}

/* Does the request's head bear a context? What is no HTTP has none, but FastCGI's parameters (its first byte is 1). */
static __always_inline enum head look_at_head(const struct exchange *x, const struct payload *p)
{
	struct look l = { .p = p, .len = x->req_cap };
	u32 len = x->req_cap;

	if (!len)
		return HEAD_DOUBTFUL;
	if (!begins_request(p->request, len))
		return p->request[0] == 1 ? HEAD_DOUBTFUL : HEAD_PLAIN;
	if (len > REQUEST_LARGE)
		return HEAD_DOUBTFUL;
	/* The last line's beginning is looked at with what follows it: SLACK is there to be read. */
	bpf_loop((len + 7) / 8, look_at, &l, 0);
	if (l.found == HEAD_INCOMPLETE && len >= 3 && len <= REQUEST_LARGE) {
		u32 end = (len - 1) & (REQUEST_LARGE - 1);
		u32 before = (len - 2) & (REQUEST_LARGE - 1), first = (len - 3) & (REQUEST_LARGE - 1);
		if (p->request[end] == '\n' &&
		    (p->request[before] == '\n' || (p->request[before] == '\r' && p->request[first] == '\n')))
			return HEAD_PLAIN;
	}
	return l.found == HEAD_INCOMPLETE && (len == REQUEST_LARGE || len < x->req_bytes) ? HEAD_DOUBTFUL : l.found;
}

static __always_inline void tell_context(u64 request, const struct context *came)
{
	struct arrived_context a = { .request = request,
				     .trace = { came->trace[0], came->trace[1] },
				     .span = came->span };

	count_wire(WIRE_READ);
	if (bpf_ringbuf_output(&arrived_contexts, &a, sizeof(a), wakeup(&arrived_contexts, request)))
		count_wire(WIRE_LOST);
}

/* Settles in which trace the request in progress is, once its head is here. */
static __always_inline void settle_request_trace(struct conn *c, struct sock *sk, struct wire *w)
{
	struct exchange *x = &c->x;
	u64 span = x->span_id, place = place_of(c->k.key, x->seq_req);
	struct context came = {};
	struct trace t = {};

	struct trace *sent = bpf_map_lookup_elem(&sent_traces, &place);
	bool arrived = !sent && came_with(w, x->seq_req, &came);
	if (arrived && !is_trusted(c)) {
		count_wire(WIRE_DISBELIEVED);
		arrived = false;
	}
	if (w->settled != span) { /* the first look */
		w->settled = span;
		if (arrived)
			tell_context(span, &came);
	}
	struct payload *p = bpf_sk_storage_get(&payloads, sk, 0, 0);
	enum head head = p ? look_at_head(x, p) : HEAD_DOUBTFUL;
	if (head != HEAD_PLAIN)
		return;
	if (sent) {
		t = *sent;
	} else if (arrived) {
		t.id[0] = came.trace[0];
		t.id[1] = came.trace[1];
	} else if (!c->k.peer && !bpf_map_lookup_elem(&local_ends, &c->k.key)) {
		u64 key = exchange_key(c->k.key, x->seq_req);
		if (key)
			t = trace_of(key);
	}
	if (t.id[0])
		bpf_map_update_elem(&request_traces, &span, &t, BPF_ANY);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(after_receive, struct sock *sk, int ret, int flags)
{
	if (ret <= 0 || flags & MSG_PEEK)
		return 0;
	struct conn *c = find_conn(sk, true, false);
	if (!c || c->client || c->ignored || c->k.protocol == IPPROTO_UDP)
		return 0;
	u32 tgid = bpf_get_current_pid_tgid() >> 32, one = 1;
	if (!bpf_map_lookup_elem(&receivers, &tgid) && bpf_map_update_elem(&receivers, &tgid, &one, BPF_ANY))
		count_wire(WIRE_LOST);
	if (c->k.protocol != IPPROTO_TCP || c->tls || c->phase != REQUEST)
		return 0;
	struct wire *w = bpf_sk_storage_get(&wires, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!w)
		return 0;
	u64 span = c->x.span_id;
	if (w->settled != span || !bpf_map_lookup_elem(&request_traces, &span))
		settle_request_trace(c, sk, w);
	return 0;
}

/* ---- segments ---- */

static __always_inline bool is_loopback(const struct bpf_sock_ops *ops)
{
	if (ops->family == AF_INET)
		return ops->remote_ip4 == ops->local_ip4 || (ops->remote_ip4 & 0xff) == 127;
	return ops->remote_ip6[0] == ops->local_ip6[0] && ops->remote_ip6[1] == ops->local_ip6[1] &&
	       ops->remote_ip6[2] == ops->local_ip6[2] && ops->remote_ip6[3] == ops->local_ip6[3];
}

/* The sequence number of the segment; false: its header is not there. */
static __always_inline bool segment_begins(const struct bpf_sock_ops *ops, u32 *seq)
{
	const struct tcp_header *h = ops->skb_data;

	if ((void *)(h + 1) > ops->skb_data_end)
		return false;
	*seq = __builtin_bswap32(h->seq);
	return true;
}

/* How much a packet's options will take. Called for each that leaves, so most end at the first lines. */
static __always_inline void reserve(struct bpf_sock_ops *ops, struct wire *w)
{
	u32 len = ops->skb_len;

	if (ops->args[0] == BPF_WRITE_HDR_TCP_CURRENT_MSS || !len || !w->out.span)
		return;
	/* Only the segment that begins with the request's first byte, when it is sent for the first time. */
	if (ops->snd_nxt != w->out_seq) {
		if ((s32)(ops->snd_nxt - w->out_seq) > 0)
			return;
		if ((s32)(ops->snd_nxt + len - w->out_seq) > 0 && w->left_out != w->out_n) {
			w->left_out = w->out_n;
			count_wire(WIRE_MID_SEGMENT);
		}
		return;
	}
	u32 why = len + sizeof(struct wire_option) > ops->mss_cache         ? WIRE_TOO_LONG
		  : bpf_reserve_hdr_opt(ops, sizeof(struct wire_option), 0) ? WIRE_NO_ROOM
									    : WIRE_KINDS;
	if (why != WIRE_KINDS && w->left_out != w->out_n) {
		w->left_out = w->out_n;
		count_wire(why);
	}
}

static __always_inline void write(struct bpf_sock_ops *ops, struct wire *w)
{
	struct wire_option o = { OPTION_KIND, sizeof(o), OPTION_ID, { w->out.trace[0], w->out.trace[1] }, w->out.span };
	u32 seq;

	if (!o.span || !segment_begins(ops, &seq) || seq != w->out_seq)
		return; /* what was reserved is filled with no-operations */
	if (bpf_store_hdr_opt(ops, &o, sizeof(o), 0))
		return;
	w->told = 1;
	count_wire(WIRE_WRITTEN);
}

static __always_inline void read(struct bpf_sock_ops *ops)
{
	struct wire_option o = { OPTION_KIND, 4, OPTION_ID };
	u32 seq;

	if (bpf_load_hdr_opt(ops, &o, sizeof(o), 0) != sizeof(o) || !o.span || !(o.trace[0] | o.trace[1]) ||
	    !segment_begins(ops, &seq))
		return;
	struct bpf_sock *sk = ops->sk;
	struct wire *w = sk ? bpf_sk_storage_get(&wires, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE) : 0;
	if (!w)
		return count_wire(WIRE_LOST);
	for (int i = 0; i < ARRIVALS;
	     i++) /* what came before, or a later part of what was cut up, says the same again */
		if (w->in[i].context.span == o.span)
			return;
	struct arrival *a = &w->in[w->arrivals++ & (ARRIVALS - 1)];
	a->context.span = 0;
	barrier();
	a->context.trace[0] = o.trace[0];
	a->context.trace[1] = o.trace[1];
	a->seq = seq;
	barrier();
	a->context.span = o.span;
}

SEC("sockops")
int on_segment(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk;
	struct wire *w;

	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (!is_loopback(ops))
			bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG);
		break;
	case BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
		read(ops);
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		sk = ops->sk;
		w = sk ? bpf_sk_storage_get(&wires, sk, 0, 0) : 0;
		if (!w)
			break;
		if (ops->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB)
			reserve(ops, w);
		else
			write(ops, w);
		break;
	}
	return 1;
}
