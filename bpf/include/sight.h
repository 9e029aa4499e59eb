/* First sight of a socket: what stays the same for its connection, where its state lies, and how far its bytes got. */
#pragma once

#include "state.h"

static __always_inline struct conn *find_conn(struct sock *sk, bool storage, bool create)
{
	static struct conn zero;
	u64 key = (u64)sk;

	if (storage)
		return bpf_sk_storage_get(&conns, sk, 0, create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	struct conn *c = bpf_map_lookup_elem(&conns_by_sock, &key);
	if (c || !create)
		return c;
	if (bpf_map_update_elem(&conns_by_sock, &key, &zero, BPF_NOEXIST))
		return 0;
	return bpf_map_lookup_elem(&conns_by_sock, &key);
}

static __always_inline struct payload *find_payload(struct sock *sk, bool storage, bool create)
{
	static struct payload zero;
	u64 key = (u64)sk;

	if (storage)
		return bpf_sk_storage_get(&payloads, sk, 0, create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	struct payload *p = bpf_map_lookup_elem(&payloads_by_sock, &key);
	if (p || !create)
		return p;
	if (bpf_map_update_elem(&payloads_by_sock, &key, &zero, BPF_NOEXIST))
		return 0;
	return bpf_map_lookup_elem(&payloads_by_sock, &key);
}

static __always_inline void drop_payload(struct sock *sk, bool storage)
{
	u64 key = (u64)sk;

	if (storage)
		bpf_sk_storage_delete(&payloads, sk);
	else
		bpf_map_delete_elem(&payloads_by_sock, &key);
}

static __always_inline void drop_conn(struct sock *sk)
{
	u64 key = (u64)sk;

	bpf_map_delete_elem(&conns_by_sock, &key);
	drop_payload(sk, false);
}

static __always_inline void map_v4(u8 *to, u32 addr) /* RFC 4291 §2.5.5.2 */
{
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, &addr, 4);
}

static __always_inline void read_addresses(struct connection *k, struct sock *sk)
{
	if (k->family == AF_INET) {
		map_v4(k->local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		map_v4(k->remote, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	} else {
		BPF_CORE_READ_INTO(&k->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&k->remote, sk, __sk_common.skc_v6_daddr);
	}
	k->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	k->remote_port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
}

/* Which end connected? connect() marks the port bucket that it picks (net/ipv4/inet_hashtables.c:
 * __inet_hash_connect: tb->fastreuse = -1); an accepted socket shares its listener's bucket. */
static __always_inline bool connected_out(struct sock *sk)
{
	struct inet_connection_sock *icsk = (void *)sk;
	struct inet_bind_bucket *bucket = BPF_CORE_READ(icsk, icsk_bind_hash);

	return bucket && BPF_CORE_READ(bucket, fastreuse) < 0;
}

/* The same of a unix socket: an accepted one has its listener's address (net/unix/af_unix.c: unix_stream_connect), the
 * one that connected seldom has any. Of a pair (socketpair) the side that speaks first is the client. */
static __always_inline bool unix_connected_out(struct sock *sk, bool speaks_first)
{
	struct unix_sock *u = (void *)sk, *other = (void *)BPF_CORE_READ(u, peer);
	bool named = BPF_CORE_READ(u, addr) != 0, other_named = other && BPF_CORE_READ(other, addr) != 0;

	return named == other_named ? speaks_first : other_named;
}

static __always_inline bool is_socketpair(struct sock *sk)
{
	struct unix_sock *u = (void *)sk, *other = (void *)BPF_CORE_READ(u, peer);

	return !BPF_CORE_READ(u, addr) && !(other && BPF_CORE_READ(other, addr));
}

static __always_inline u64 socket_id(struct sock *sk, bool storage)
{
	if (storage)
		return bpf_get_socket_cookie(sk);
	return (bpf_ktime_get_ns() << 8 | (bpf_get_smp_processor_id() & 0xff)) & ~(1ull << 63);
}

/* A connection's key: both initial sequence numbers, mixed. They are 64 random bits (RFC 6528), the same at both ends, and
 * nothing on the way that forwards packets changes them, address translation included; what ends TCP (a proxy, SYN cookies
 * of a firewall) makes two connections of it.
 * They are read back from how far it has got, so that it takes no more to have it of a connection that was there before:
 * bytes_acked counts the client's SYN, bytes_received not the server's, and both count a FIN (net/ipv4/tcp_input.c:
 * tcp_snd_una_update, tcp_rcv_nxt_update). */
static __always_inline u32 first_sent(struct tcp_sock *tp)
{
	return BPF_CORE_READ(tp, snd_una) - (u32)BPF_CORE_READ(tp, bytes_acked);
}

static __always_inline u32 first_received(struct tcp_sock *tp)
{
	return BPF_CORE_READ(tp, rcv_nxt) - (u32)BPF_CORE_READ(tp, bytes_received);
}

enum { LOOKS = 4 };
static __always_inline u64 connection_key(struct sock *sk, bool client)
{
	struct tcp_sock *tp = (void *)sk;
	u32 sent = first_sent(tp), received = first_received(tp);

	/* Another CPU may be between two stores: what is read the same twice is right. */
	for (int i = 0; i < LOOKS; i++) {
		u32 sent_again = first_sent(tp), received_again = first_received(tp);
		if (sent == sent_again && received == received_again)
			break;
		sent = sent_again;
		received = received_again;
	}
	u64 key = client ? (u64)(sent + 1) << 32 | received : (u64)received << 32 | sent;
	key = mix64(key);
	return key ? key : 1;
}

/* First sight of a socket: all that stays the same for its connection. */
static __always_inline void meet(struct conn *c, struct sock *sk, bool storage, u16 family, u16 protocol, bool send)
{
	struct connection *k = &c->k;
	u64 id = bpf_get_current_pid_tgid();

	k->id = socket_id(sk, storage);
	k->family = family;
	k->protocol = protocol;
	k->t_open = bpf_ktime_get_ns();
	k->tgid = id >> 32;
	k->cgroup = bpf_get_current_cgroup_id();
	k->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	read_process_name(k->comm);
	c->ignored = k->tgid == config.agent;
	if (family == AF_UNIX) {
		c->client = unix_connected_out(sk, send);
		c->paired = is_socketpair(sk);
	} else {
		read_addresses(k, sk);
		c->client = protocol == IPPROTO_UDP ? k->remote_port != 0 : connected_out(sk);
	}
	if (!c->client)
		k->flags |= CONNECTION_SERVER;
	if (protocol == IPPROTO_TCP)
		k->key = connection_key(sk, c->client);
}

extern void *bpf_rdonly_cast(const void *object, u32 btf_id) __ksym __weak;

/* The sequence number behind the last byte that was read. A FIN counts as one, once all before it was read; the states
 * in which one has come are those from TCP_TIME_WAIT on. */
static __always_inline u32 read_up_to(struct sock *sk, bool storage)
{
	struct tcp_sock *tp = (void *)sk;

	if (storage) { /* kernels with the sock_*_length hooks have this: plain loads, ten times faster than copying */
		tp = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
		u32 seq = tp->copied_seq;
		return sk->__sk_common.skc_state < TCP_TIME_WAIT || seq != tp->rcv_nxt ? seq : seq - 1;
	}
	u32 seq = BPF_CORE_READ(tp, copied_seq);
	return BPF_CORE_READ(sk, __sk_common.skc_state) < TCP_TIME_WAIT || seq != BPF_CORE_READ(tp, rcv_nxt) ? seq
													     : seq - 1;
}

static __always_inline u32 written_up_to(struct sock *sk, bool storage)
{
	struct tcp_sock *tp = (void *)sk;

	if (!storage)
		return BPF_CORE_READ(tp, write_seq);
	tp = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
	return tp->write_seq;
}

static __always_inline bool is_observed(struct sock *sk, u16 family, u16 protocol)
{
	u16 type = BPF_CORE_READ(sk, sk_type);

	if (family == AF_UNIX)
		return type == SOCK_STREAM;
	if (family != AF_INET && family != AF_INET6)
		return false;
	return (type == SOCK_STREAM && protocol == IPPROTO_TCP) || (type == SOCK_DGRAM && protocol == IPPROTO_UDP);
}

/* Did anything travel on this connection before the `len` bytes just moved? What was read before is what was received
 * less what has not been read; a SYN or FIN counts as one. */
static __always_inline bool seen_before(struct sock *sk, bool send, u32 len, bool storage)
{
	struct tcp_sock *tp = (void *)sk;
	s32 unread = BPF_CORE_READ(tp, rcv_nxt) - read_up_to(sk, storage);
	s32 unacked = BPF_CORE_READ(tp, write_seq) - BPF_CORE_READ(tp, snd_una);
	s64 received = BPF_CORE_READ(tp, bytes_received) - unread - (send ? 0 : len);
	s64 sent = BPF_CORE_READ(tp, bytes_acked) + unacked - (send ? len : 0);

	return received > 0 || sent > 1;
}

static __always_inline struct conn *first_sight(struct sock *sk, bool storage, bool send, u32 len)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	u16 protocol = BPF_CORE_READ(sk, sk_protocol);

	if (!is_observed(sk, family, protocol) || is_elsewhere(sk))
		return 0;
	struct conn *c = find_conn(sk, storage, true);
	if (!c) {
		lose(LOSS_NO_STATE);
		return 0;
	}
	meet(c, sk, storage, family, protocol, send);
	/* A client is met when it connects. */
	if (protocol == IPPROTO_TCP && (c->client || seen_before(sk, send, len, storage)))
		c->k.flags |= CONNECTION_MIDSTREAM;
	c->greets = (c->k.flags & CONNECTION_MIDSTREAM) != 0;
	return c;
}
