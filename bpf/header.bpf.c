/* Context in a header of HTTP/1 requests, for those who ask for it: `traceparent`, put in where it is sent (sock_msg.h).
 *
 * Theory of operation. The kernel shows messages to a program only of sockets that are in a map, and what is in a map is
 * not quite as it was: see may_wait, announces. So only those connections get there of which it is known that their client
 * speaks HTTP/1 to their server: the same program did, to the same address, on a connection that was left alone. Those
 * whose calls may wait are taken out again in the call that sends the first request, before it returns.
 *
 * A head is told from a body by its place: where the next one is due follows from the last one's length and its body's, as
 * a sequence number. What is not at its place, or not certainly one whole head, ends that for the connection. The programs:
 *
 *   sockops         a connection is there: is it to be looked at? Later: takes it out of the map
 *   sk_msg          a message is about to be sent: is it a request, and what is its context?
 *   sys_enter       in which trace a request is whose other end may be on this host. It must be known before its first
 *                   byte is sent: who receives it may call others before this call of its sender ends
 *   sys_exit        after requests.bpf.c: where the request began, as the other end counts; who speaks HTTP/1 to whom; the
 *                   trace of a request that was received
 *   sched_process_*, tcp_destroy_sock   forget
 *
 * State lies in hash maps, as with the front by sys_exit, which this goes with. */
#include "descriptor.h"
#include "head.h"
#include "sight.h"
#include "sock_ops.h"
#include "within.h"

char LICENSE[] SEC("license") = "GPL";

enum wire_stat schema_wire_stat;

/* Connections that are looked at: clients of HTTP/1. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, u64);
} clients SEC(".maps");

/* One of them. Born when it is connected, gone with the socket. Only under the socket's lock. */
struct client {
	u64 sock;
	u64 cookie;
	u32 next;  /* sequence number at which a request's head is due */
	u32 began; /* of the last head */
	u32 leaves;
	u32 unused;
	struct head head;
};
STORAGE(heads, BPF_MAP_TYPE_SK_STORAGE, struct client);

/* The request that bears a context and is not yet known by its call, by socket. Gone with it. */
struct carried {
	u64 span;
	u32 seq;
	u32 unused;
};
TABLE(carriers, u64, struct carried, 65536);

/* Who spoke what to whom. */
enum speech { SPEAKS_HTTP = 1, SPEAKS_OTHER = 2 };
struct speaker {
	u8 remote[16];
	char comm[16];
	u32 port;
	u32 unused;
};
RECENT(speakers, struct speaker, u32, 8192);

static __always_inline void name_speaker(struct speaker *s, const struct conn *c)
{
	__builtin_memset(s, 0, sizeof(*s));
	__builtin_memcpy(s->remote, c->k.remote, sizeof(s->remote));
	__builtin_memcpy(s->comm, c->k.comm, sizeof(s->comm));
	s->port = c->k.remote_port;
}

static __always_inline struct conn *conn_of(u64 sock)
{
	return bpf_map_lookup_elem(&conns_by_sock, &sock);
}

/* ---- connections ---- */

static __always_inline bool is_loopback(const struct bpf_sock_ops *ops)
{
	if (ops->family == AF_INET)
		return ops->remote_ip4 == ops->local_ip4 || (ops->remote_ip4 & 0xff) == 127;
	return ops->remote_ip6[0] == ops->local_ip6[0] && ops->remote_ip6[1] == ops->local_ip6[1] &&
	       ops->remote_ip6[2] == ops->local_ip6[2] && ops->remote_ip6[3] == ops->local_ip6[3];
}

/* Is it to be looked at? Sets where its first request is due. */
static __always_inline bool is_wanted(struct client *w)
{
	struct tcp_sock *tp = (void *)w->sock;
	struct conn *c = conn_of(w->sock);
	struct speaker s;

	if (!c || !c->client || c->ignored || announces(w->sock))
		return false;
	name_speaker(&s, c);
	u32 *speech = bpf_map_lookup_elem(&speakers, &s);
	w->next = w->began = BPF_CORE_READ(tp, write_seq);
	/* What was sent with the SYN (TCP Fast Open) went by. */
	return speech && *speech == SPEAKS_HTTP && w->next == BPF_CORE_READ(tp, snd_una);
}

static __always_inline void connected(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct client *w = bpf_sk_storage_get(&heads, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!w)
		return count_wire(WIRE_LOST);
	w->sock = (u64)sk;
	u64 cookie = w->cookie = bpf_get_socket_cookie(ops);
	if (!is_wanted(w)) {
		bpf_sk_storage_delete(&heads, sk);
		return;
	}
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
	if (bpf_sock_hash_update(ops, &clients, &cookie, BPF_NOEXIST)) {
		bpf_sk_storage_delete(&heads, sk);
		count_wire(WIRE_LOST);
	}
}

/* In each call that sends, before anything is queued (net/ipv4/tcp_output.c: tcp_current_mss), and for each segment. */
static __always_inline void take_out(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct client *w = bpf_sk_storage_get(&heads, sk, 0, 0);

	if (!w || !w->leaves)
		return;
	u64 cookie = w->cookie;
	bpf_map_delete_elem(&clients, &cookie);
	bpf_sk_storage_delete(&heads, sk);
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

SEC("sockops")
int on_connection(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;

	if (!sk)
		return 1;
	if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB) {
		if (!is_loopback(ops))
			connected(ops, sk);
	} else if (ops->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB) {
		take_out(ops, sk);
	}
	return 1;
}

/* ---- messages ---- */

/* Nothing more of this connection is looked at. */
static __always_inline int leave(struct client *w, u32 why)
{
	w->leaves = 1;
	count_wire(why);
	return SK_PASS;
}

/* Puts the context of the request into its head. Returns the verdict; w->next is where the next head is due. */
static __always_inline int tell(struct sk_msg_md *m, struct client *w, const struct conn *c)
{
	struct carried known = { .span = span_of(c->k.id, c->n), .seq = w->began };
	struct thread *thread = calling_thread();
	u64 sock = w->sock;
	struct trace t = {};
	bool pushed;

	look_up_origin(thread);
	u32 why = settle_call(thread, known.span, true, &t);
	if (why != WIRE_KINDS) {
		count_wire(why);
		return SK_PASS;
	}
	if (!may_push(sock, w->head.line)) {
		count_wire(WIRE_QUEUED);
		return SK_PASS;
	}
	if (bpf_map_update_elem(&carriers, &sock, &known, BPF_ANY)) {
		count_wire(WIRE_LOST);
		return SK_PASS;
	}
	enum sk_verdict verdict = push_header(m, w->head.line, w->head.length, t.id, known.span, &pushed);
	if (pushed) {
		w->next += HEADER_LEN;
		count_wire(WIRE_WRITTEN);
	} else {
		bpf_map_delete_elem(&carriers, &sock);
		count_wire(WIRE_LOST);
	}
	return verdict;
}

SEC("sk_msg")
int before_send(struct sk_msg_md *m)
{
	struct bpf_sock *sk = m->sk;
	struct client *w = sk ? bpf_sk_storage_get(&heads, sk, 0, 0) : 0;
	u32 size = m->size;

	if (!w || w->leaves)
		return SK_PASS;
	struct tcp_sock *tp = (void *)w->sock;
	struct conn *c = conn_of(w->sock);
	u32 at = BPF_CORE_READ(tp, write_seq);
	if (!c || !c->client || c->tls || c->h2.on || announces(w->sock))
		return leave(w, WIRE_UNCERTAIN);
	s32 due = w->next - at;
	if (may_wait(w->sock))
		w->leaves = 1;
	if (due && at != w->began) /* of a body; a head of which nothing was sent yet comes again */
		return due > 0 && (u32)due >= size ? SK_PASS : leave(w, WIRE_UNCERTAIN);
	if (c->phase == REQUEST || m->data == m->data_end) /* pipelined; sent from a file */
		return leave(w, WIRE_UNCERTAIN);
	u32 look = size < HEAD_MOST ? size : HEAD_MOST;
	if (m->data + look > m->data_end && bpf_msg_pull_data(m, 0, look, 0))
		return leave(w, WIRE_UNCERTAIN);
	if (!is_head(m, &w->head))
		return leave(w, WIRE_UNCERTAIN);
	u32 rest = size - w->head.length, body = w->head.body;
	if (rest > body && !(w->head.seen & LINE_OPEN)) /* the next one is in it, too */
		return leave(w, WIRE_UNCERTAIN);
	w->began = at;
	w->next = at + w->head.length + body;
	if (w->head.seen & LINE_OPEN)
		w->leaves = 1;
	if (w->head.seen & LINE_CONTEXT) {
		count_wire(WIRE_OWN_CONTEXT);
		return SK_PASS;
	}
	return c->k.peer ? SK_PASS : tell(m, w, c);
}

/* ---- calls, after requests.bpf.c ---- */

static __always_inline bool is_http_response(const u8 *b)
{
	return b[0] == 'H' && b[1] == 'T' && b[2] == 'T' && b[3] == 'P' && b[4] == '/' && b[5] == '1' && b[6] == '.';
}

/* A client's first exchange says what is spoken here. */
static __always_inline void learn(const struct conn *c, u64 sock)
{
	struct payload *p = bpf_map_lookup_elem(&payloads_by_sock, &sock);
	struct speaker s;

	if (c->x.n || c->k.flags & CONNECTION_MIDSTREAM || c->k.peer)
		return;
	bool http = !c->tls && !c->h2.on && p && c->x.req_cap > 16 && c->x.rsp_cap > 8 &&
		    begins_request(p->request, 8) && is_http_response(p->response) && !announces(sock) &&
		    !(p->request[0] == 'C' && p->request[1] == 'O' && p->request[2] == 'N');
	u32 speech = http ? SPEAKS_HTTP : SPEAKS_OTHER;
	name_speaker(&s, c);
	u32 *before = bpf_map_lookup_elem(&speakers, &s);
	if (!before || *before < speech)
		bpf_map_update_elem(&speakers, &s, &speech, BPF_ANY);
}

/* Are these a request's first bytes? They are the user's: of a connection within this host the other end has the payload. */
static __always_inline bool sends_request(struct thread *t, const struct syscall *call)
{
	struct source from = {};
	struct user_iovec v;
	u8 first[8] = {};

	if (!t || call->nr == NR_sendmmsg)
		return false;
	find_source(&from, t, call);
	u64 at = from.base;
	if (!at && from.buffers && !bpf_probe_read_user(&v, sizeof(v), (void *)from.vector))
		at = v.base;
	return at && !bpf_probe_read_user(first, sizeof(first), (void *)at) && begins_request(first, sizeof(first));
}

SEC("tp_btf/sys_enter")
int BPF_PROG(before_call, struct pt_regs *regs, long nr)
{
	struct syscall call = { .nr = nr };
	u64 ino, sock;

	if (direction_of(&call) != SENDS || nr == NR_splice)
		return 0;
	read_syscall(&call, regs, false);
	if (call.nr != nr) /* 32 bit */
		return 0;
	sock = (u64)socket_of(call.args[0], &ino);
	if (!sock)
		return 0;
	struct conn *c = conn_of(sock);
	if (!c) {
		note_unmet((void *)sock);
		return 0;
	}
	if (!c->client || c->ignored || c->tls || c->h2.on || c->phase == REQUEST || c->k.protocol != IPPROTO_TCP ||
	    !c->k.key || (c->ino && c->ino != ino) || !is_noted(c))
		return 0;
	struct tcp_sock *tp = (void *)sock;
	struct thread *thread = calling_thread();
	note_request(c, BPF_CORE_READ(tp, write_seq), thread, span_of(c->k.id, c->n), sends_request(thread, &call));
	return 0;
}

/* A client's call has sent something of a request. first: its first message. */
static __always_inline void after_send(struct conn *c, u64 sock, const struct syscall *call, bool first)
{
	struct carried *told = bpf_map_lookup_elem(&carriers, &sock);

	if (told && told->span && told->span == c->x.span_id) {
		/* The other end counts from where the request with its header begins. */
		c->x.seq_req = told->seq;
		c->x.flags |= EXCHANGE_CARRIED;
		told->span = 0;
		return;
	}
	if (!first)
		return;
	struct thread *thread = calling_thread();
	bool http = sends_request(thread, call);
	u64 place = place_of(c->k.key, c->x.seq_req);
	if (is_noted(c) && !is_known(bpf_map_lookup_elem(&sent_traces, &place)))
		note_request(c, c->x.seq_req, thread, c->x.span_id, http);
	if (http && !c->k.peer && !told)
		count_wire(WIRE_UNWATCHED);
}

/* Settles in which trace the request in progress is, once its head is here. A global function, to be verified once. */
__noinline int settle_request_trace(u64 sock)
{
	struct conn *c = conn_of(sock);
	struct payload *p = bpf_map_lookup_elem(&payloads_by_sock, &sock);
	struct trace t = {};

	if (!c || !p)
		return 0;
	u64 span = c->x.span_id, place = place_of(c->k.key, c->x.seq_req);
	u32 seen = look_at_request(p, sock, c->x.req_cap);
	if (seen & LINE_BAD)
		return 0;
	struct trace *sent = bpf_map_lookup_elem(&sent_traces, &place);
	if (seen & LINE_CONTEXT) {
		if (!(seen & LINE_PARENT))
			return 0;
		if (!is_trusted(c)) {
			count_wire(WIRE_DISBELIEVED);
			return 0;
		}
		if (!read_trace(p->request + (seen & (REQUEST_LARGE - 1)) + TRACE_AT, t.id))
			return 0;
		count_wire(WIRE_READ);
	} else if (is_known(sent)) {
		t = *sent;
	} else if (sent || c->k.peer || bpf_map_lookup_elem(&local_ends, &c->k.key)) {
		bpf_map_update_elem(&request_origins, &span, &place, BPF_ANY);
		return 0;
	} else {
		u64 key = exchange_key(c->k.key, c->x.seq_req);
		if (key)
			t = trace_of(key);
	}
	if (t.id[0])
		bpf_map_update_elem(&request_traces, &span, &t, BPF_ANY);
	return 0;
}

static __always_inline void after_receive(struct conn *c, u64 sock)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32, one = 1;
	u64 span = c->x.span_id;

	if (!bpf_map_lookup_elem(&receivers, &tgid) && bpf_map_update_elem(&receivers, &tgid, &one, BPF_ANY))
		count_wire(WIRE_LOST);
	if (c->k.protocol == IPPROTO_TCP && !c->tls && !c->h2.on && c->phase == REQUEST &&
	    !bpf_map_lookup_elem(&request_traces, &span))
		settle_request_trace(sock);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(after_call, struct pt_regs *regs, long ret)
{
	struct syscall call;
	u64 ino, sock;

	if (ret <= 0)
		return 0;
	read_syscall(&call, regs, false);
	enum direction way = direction_of(&call);
	if (way == NO_SOCKET_CALL || call.nr == NR_splice)
		return 0;
	sock = (u64)socket_of(call.args[0], &ino);
	struct conn *c = sock ? conn_of(sock) : 0;
	if (!c || c->ignored || c->k.protocol == IPPROTO_UDP)
		return 0;
	if (!c->client) {
		if (way == RECEIVES)
			after_receive(c, sock);
	} else if (c->k.protocol == IPPROTO_TCP) {
		if (way == SENDS && c->phase == REQUEST)
			after_send(c, sock, &call, c->x.req_bytes == ret);
		else if (way == RECEIVES && c->phase == RESPONSE && c->x.rsp_bytes == ret)
			learn(c, sock);
	}
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(after_destroy, struct sock *sk)
{
	u64 sock = (u64)sk;

	bpf_map_delete_elem(&carriers, &sock);
	return 0;
}
