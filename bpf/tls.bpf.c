/* Plaintext that goes through SSL_read and SSL_write (and their _ex forms) of a dynamically linked OpenSSL 1.1 or 3.x:
 * the same exchanges as on plain sockets. Entry notes the buffer, return knows how much of it was moved. And the name of
 * the server that a client asks for: SSL_set_tlsext_host_name is a macro, SSL_ctrl(ssl, 55, 0, name). */
#include "tls.h"

char LICENSE[] SEC("license") = "GPL";

struct tls_key schema_tls_key;

static __always_inline struct tls_conn *find_tls(struct tls_key *key, bool create)
{
	static struct tls_conn zero;

	struct tls_conn *tls = bpf_map_lookup_elem(&tls_conns, key);
	if (tls || !create)
		return tls;
	if (bpf_map_update_elem(&tls_conns, key, &zero, BPF_NOEXIST))
		lose(LOSS_TLS_STATE_FULL);
	tls = bpf_map_lookup_elem(&tls_conns, key);
	if (tls)
		tls->c.k.t_open = bpf_ktime_get_ns();
	return tls;
}

static __always_inline int enter(u64 ssl, u64 buffer, u64 moved, bool storage)
{
	struct tls_key key = { ssl, bpf_get_current_pid_tgid() >> 32 };

	if (key.tgid == config.agent || runs_elsewhere())
		return 0;
	struct thread *t = this_thread(storage);
	if (!t)
		return 0;
	struct tls_conn *tls = find_tls(&key, true);
	t->ssl = ssl;
	t->ssl_buffer = buffer;
	t->ssl_moved = moved;
	t->ssl_begun = bpf_ktime_get_ns();
	t->ssl_bound = tls && tls->c.k.id;
	return 0;
}

static __always_inline void follow_socket(struct conn *c)
{
	u64 id = c->k.id;
	struct tls_socket *s = bpf_map_lookup_elem(&tls_sockets, &id);

	if (s && s->k.peer != c->k.peer)
		set_peer(c, s->k.peer);
	if (s)
		c->epoll = s->epoll;
}

/* Which exchange of the connection it is, to be the same at both ends: that of plain ones is told by its first byte, but of
 * TLS records nobody knows from outside which one the plaintext began in (tickets, a Finished, a key update may be before
 * it). But all that the client has written when the answer comes, and the server has read when it answers, is this
 * request's last byte, whatever else was before. */
static __always_inline void place_exchange(struct conn *c)
{
	u64 id = c->k.id;
	struct tls_socket *s = bpf_map_lookup_elem(&tls_sockets, &id);

	if (s)
		c->x.seq_req = c->client ? s->sent : s->received;
}

static __always_inline int leave(long returned, bool send, bool ex, bool storage)
{
	struct tls_key key = { 0, bpf_get_current_pid_tgid() >> 32 };
	struct message m = { .send = send, .now = bpf_ktime_get_ns(), .task = bpf_get_current_pid_tgid() };
	struct thread *t = this_thread(storage);
	u64 moved = returned;

	if (!t || !t->ssl)
		return 0;
	key.ssl = t->ssl;
	m.from.base = t->ssl_buffer;
	m.begun = send ? t->ssl_begun : m.now; /* a read began by waiting */
	t->ssl = 0;
	if (returned <= 0)
		return 0;
	if (ex && bpf_probe_read_user(&moved, sizeof(moved), (void *)t->ssl_moved))
		return 0;
	if (!moved || moved > 0x7fffffff)
		return 0;
	m.len = moved;
	struct tls_conn *tls = find_tls(&key, false);
	if (!tls)
		return 0;
	if (!tls->c.k.id && t->tls_conn)
		bind_tls(&key, t->tls_conn);
	if (!tls->c.k.id && send) {
		/* Fed library: the records of what it wrote leave next. Its first write is a client's request. */
		t->tls_written = key.ssl;
		tls->c.client = 1;
	} else if (!tls->c.k.id) {
		lose(LOSS_TLS_UNBOUND);
		return 0;
	}
	t->tls_conn = 0;
	tell_name(tls, m.now);
	heed_sweep(&tls->c);
	u8 before = tls->c.phase;
	if (before != REQUEST)
		follow_socket(&tls->c);
	meet_unit(t, &tls->c, send, storage);
	if (storage || !frames_before(&tls->c, t, &m)) {
		on_message(&tls->c, &tls->p, t, &m, storage);
		if (!storage)
			frames_after(&tls->c, t, &m);
	}
	if (!send)
		begin_segment(t);
	if (before == REQUEST && tls->c.phase == RESPONSE)
		place_exchange(&tls->c);
	tls->c.x.flags |= EXCHANGE_TLS;
	return 0;
}

/* The handshake of a fed library: called by the thread that just received its records. */
static __always_inline int shake(u64 ssl, bool storage)
{
	struct tls_key key = { ssl, bpf_get_current_pid_tgid() >> 32 };
	struct thread *t = this_thread(storage);

	if (!t || !t->tls_conn || key.tgid == config.agent)
		return 0;
	if (find_tls(&key, true) && bind_tls(&key, t->tls_conn))
		t->tls_conn = 0;
	return 0;
}

enum { SET_TLSEXT_HOSTNAME = 55 }; /* SSL_CTRL_SET_TLSEXT_HOSTNAME of openssl/tls1.h, the same in all versions */
static __always_inline int enter_control(u64 ssl, u32 command, u64 name, bool storage)
{
	if (bpf_get_current_pid_tgid() >> 32 == config.agent || runs_elsewhere())
		return 0;
	struct thread *t = command == SET_TLSEXT_HOSTNAME ? this_thread(storage) : known_thread(storage);
	if (!t)
		return 0;
	t->naming = command == SET_TLSEXT_HOSTNAME ? ssl : 0;
	t->naming_from = name;
	return 0;
}

/* The library has taken the name, or refused it; having read it, it is there to be read. */
static __always_inline int leave_control(long returned, bool storage)
{
	struct tls_key key = { 0, bpf_get_current_pid_tgid() >> 32 };
	struct thread *t = known_thread(storage);

	if (!t || !t->naming)
		return 0;
	key.ssl = t->naming;
	t->naming = 0;
	struct tls_conn *tls = returned == 1 ? find_tls(&key, true) : 0;
	if (!tls)
		return 0;
	tls->t_told = 0;
	tls->asked.name[0] = 0;
	if (t->naming_from &&
	    bpf_probe_read_user_str(tls->asked.name, sizeof(tls->asked.name), (void *)t->naming_from) < 0)
		lose(LOSS_NAME_FAULT);
	return 0;
}

static __always_inline int release(u64 ssl, bool storage)
{
	struct tls_key key = { ssl, bpf_get_current_pid_tgid() >> 32 };
	struct tls_conn *tls = find_tls(&key, false);

	if (!tls)
		return 0;
	u64 id = tls->c.k.id;
	struct tls_socket *s = id ? bpf_map_lookup_elem(&tls_sockets, &id) : 0;
	if (s)
		__builtin_memset(&s->bound, 0, sizeof(s->bound));
	if (id) {
		end_exchange(&tls->c, &tls->p, bpf_ktime_get_ns(), EXCHANGE_LAST, storage);
		close_http2(&tls->c, EXCHANGE_LAST, bpf_ktime_get_ns());
	}
	bpf_map_delete_elem(&tls_conns, &key);
	return 0;
}

enum { UNBOUND_S = 120 };
/* One that never met its socket ends with its SSL*, or, when its process is gone without freeing it, here. */
static __always_inline int sweep_one(struct tls_key *at, struct tls_conn *tls, bool storage)
{
	u64 now = bpf_ktime_get_ns();

	if (!at || !tls)
		return 0;
	if (tls->c.k.id) {
		sweep(&tls->c, &tls->p, now, storage);
	} else if (now - tls->c.k.t_open > UNBOUND_S * 1000000000ull) {
		struct tls_key key = *at;
		if (tls->c.phase == REQUEST || tls->c.phase == RESPONSE) {
			lose(LOSS_TLS_UNBOUND);
			count(STAT_ENCRYPTED, 1);
		}
		bpf_map_delete_elem(&tls_conns, &key);
	}
	return 0;
}

/* One set of programs for each kind of state (see requests.bpf.c): a program must not even contain what its kernel lacks. */
#define PROGRAM(SECTION, NAME, BODY)                                                                                   \
	SEC(SECTION) int NAME##_storage(struct pt_regs *ctx)                                                           \
	{                                                                                                              \
		const bool storage = true;                                                                             \
		return BODY;                                                                                           \
	}                                                                                                              \
	SEC(SECTION) int NAME##_hash(struct pt_regs *ctx)                                                              \
	{                                                                                                              \
		const bool storage = false;                                                                            \
		return BODY;                                                                                           \
	}

PROGRAM("uprobe", tls_enter, enter(ARGUMENT(ctx, 1), ARGUMENT(ctx, 2), 0, storage))
PROGRAM("uprobe", tls_enter_ex, enter(ARGUMENT(ctx, 1), ARGUMENT(ctx, 2), ARGUMENT(ctx, 4), storage))
PROGRAM("uretprobe", tls_read, leave((int)RETURNED(ctx), false, false, storage))
PROGRAM("uretprobe", tls_write, leave((int)RETURNED(ctx), true, false, storage))
PROGRAM("uretprobe", tls_read_ex, leave((int)RETURNED(ctx), false, true, storage))
PROGRAM("uretprobe", tls_write_ex, leave((int)RETURNED(ctx), true, true, storage))
PROGRAM("uprobe", tls_handshake, shake(ARGUMENT(ctx, 1), storage))
PROGRAM("uprobe", tls_control, enter_control(ARGUMENT(ctx, 1), ARGUMENT(ctx, 2), ARGUMENT(ctx, 4), storage))
PROGRAM("uretprobe", tls_controlled, leave_control(RETURNED(ctx), storage))
PROGRAM("uprobe", tls_free, release(ARGUMENT(ctx, 1), storage))

SEC("iter/bpf_map_elem")
int sweep_tls_storage(struct bpf_iter__bpf_map_elem *ctx)
{
	return sweep_one(ctx->key, ctx->value, true);
}

SEC("iter/bpf_map_elem")
int sweep_tls_hash(struct bpf_iter__bpf_map_elem *ctx)
{
	return sweep_one(ctx->key, ctx->value, false);
}
