/* Is this kernel fit for header.bpf.c? The same with sockets of the agent's own, on loopback, before any other is touched:
 * what is sent to the test's port gets a header behind its first line where that may be done, and a connection whose call
 * may wait is taken out of the map in that call. otel_ebpf/capture/sockmap.py looks at what becomes of them. */
#include "sock_msg.h"
#include "sock_ops.h"

char LICENSE[] SEC("license") = "GPL";

const volatile struct {
	u32 port;
} test SEC(".rodata.test") = {};

enum { LINE = 16 }; /* GET / HTTP/1.1\r\n */
enum { CONNECTIONS = 64 };
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, CONNECTIONS);
	__type(key, u64);
	__type(value, u64);
} tested SEC(".maps");

struct tested_socket {
	u64 sock;
	u64 cookie;
	u64 leaves;
};
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tested_socket);
} tested_sockets SEC(".maps");

SEC("sockops")
int test_connection(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;

	if (!sk || __builtin_bswap32(ops->remote_port) != test.port || (ops->remote_ip4 & 0xff) != 127)
		return 1;
	if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB) {
		struct tested_socket *t = bpf_sk_storage_get(&tested_sockets, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!t)
			return 1;
		t->sock = (u64)sk;
		u64 cookie = t->cookie = bpf_get_socket_cookie(ops);
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
		bpf_sock_hash_update(ops, &tested, &cookie, BPF_NOEXIST);
	} else if (ops->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB) {
		struct tested_socket *t = bpf_sk_storage_get(&tested_sockets, sk, 0, 0);
		if (!t || !t->leaves)
			return 1;
		u64 cookie = t->cookie;
		bpf_map_delete_elem(&tested, &cookie);
	}
	return 1;
}

SEC("sk_msg")
int test_message(struct sk_msg_md *m)
{
	struct bpf_sock *sk = m->sk;
	struct tested_socket *t = sk ? bpf_sk_storage_get(&tested_sockets, sk, 0, 0) : 0;
	const u64 trace[2] = { 0x1111111111111111, 0x2222222222222222 };
	const u8 *b = m->data;
	bool pushed;

	if (!t || (void *)(b + LINE) > m->data_end || b[0] != 'G' || b[LINE - 1] != '\n')
		return SK_PASS;
	t->leaves = may_wait(t->sock);
	if (!may_push(t->sock, LINE))
		return SK_PASS;
	return push_header(m, LINE, m->size < HEAD_MOST ? m->size : HEAD_MOST, trace, 0x3333333333333333, &pushed);
}
