/* Socket messages → exchanges. Two fronts share one body:
 *
 *   sock_send_length, sock_recv_length   kernels that have them: nothing is added to any other syscall, a trusted sock
 *   sys_exit                             older ones: descriptor → socket, state in hash maps
 *
 * inet_sock_set_state tells births and ends of TCP connections, tcp_destroy_sock the end of their sockets. The loader
 * picks the front by looking for its BTF. */
#include "call.h"
#include "life.h"

char LICENSE[] SEC("license") = "GPL";

/* Keeps the types of records and enums in the object's BTF: user space reads them there. */
struct record_head schema_head;
struct record_small schema_small;
struct record_large schema_large;
struct frame_head schema_frame_head;
struct frame_small schema_frame_small;
struct frame_large schema_frame_large;
struct connection schema_connection;
struct process_event schema_process;
struct server_name schema_server_name;
struct lineage schema_lineage;
struct segment schema_segment;
struct heap_mark schema_heap_mark;
struct export_chunk schema_export_chunk;
struct runtime schema_runtime;
struct open_since schema_open_since;
struct query schema_query;
struct query_key schema_query_key;
enum loss schema_loss;
enum stat schema_stat;
enum exchange_flags schema_exchange_flags;
enum frame_kind schema_frame_kind;
enum frame_bits schema_frame_bits;
enum frame_block schema_frame_block;
enum connection_flags schema_connection_flags;
enum unit_kind schema_unit_kind;
enum runtime_kind schema_runtime_kind;
enum process_event_kind schema_process_event_kind;
enum capture schema_capture;

SEC("tp_btf/sock_send_length")
int BPF_PROG(on_send_length, struct sock *sk, int ret, int flags)
{
	struct message m = { .len = ret, .send = true, .from.sock = (u64)sk };

	return ret > 0 ? on_socket(sk, &m, true, 0, 0) : ret == -EPIPE ? on_end(sk, true) : 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_recv_length, struct sock *sk, int ret, int flags)
{
	if (flags & MSG_PEEK)
		return 0;
	struct message m = { .len = ret, .send = false, .from.sock = (u64)sk };
	return ret > 0 ? on_socket(sk, &m, true, 0, 0) : ret == 0 || ret == -ECONNRESET ? on_end(sk, true) : 0;
}

/* In every way of reading from a TCP socket, so it costs each of them: attached only on hosts where bytes are received by
 * ways that have no hook of their own. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(on_space_adjust, struct sock *sk)
{
	struct conn *c = find_conn(sk, true, false);
	struct syscall call;

	if (!c || !c->copied)
		return 0;
	read_syscall(&call, (void *)bpf_task_pt_regs(bpf_get_current_task_btf()), true);
	u32 len = read_up_to(sk, true) - c->copied;
	struct message m = { .len = len, .send = false, .from.sock = (u64)sk };
	return call.nr == NR_splice && len ? on_socket(sk, &m, true, &call, 0) : 0;
}

/* As the program itself needs a short stack: what it calls needs the rest. */
static __noinline int on_end_apart(struct sock *sk)
{
	return on_end(sk, false);
}

enum { MESSAGES = 16 };
SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs *regs, long ret)
{
	struct syscall call;
	u64 ino, key;

	if (ret < 0 && ret != -EPIPE && ret != -ECONNRESET)
		return 0;
	read_syscall(&call, regs, false);
	enum direction way = direction_of(&call);
	if (way == NO_SOCKET_CALL)
		return 0;
	struct sock *sk = socket_of(call.args[call.nr == NR_splice ? 2 : 0], &ino);
	if (!sk && call.nr == NR_splice) { /* one of both is a pipe */
		sk = socket_of(call.args[0], &ino);
		way = RECEIVES;
	}
	if (!sk)
		return 0;
	key = (u64)sk;
	struct conn *c = bpf_map_lookup_elem(&conns_by_sock, &key);
	if (c && c->ino != ino && (c->ino || c->k.protocol != IPPROTO_TCP)) {
		drop_conn(sk); /* of a socket that was here before */
		c = 0;
	}
	if (ret <= 0)
		return ret || way == RECEIVES ? on_end_apart(sk) : 0;
	bool many = call.nr == NR_sendmmsg || call.nr == NR_recvmmsg;
	u32 messages = many ? ret : 1, left = ret;
	if (many) {
		left = 0;
#pragma clang loop unroll(disable)
		for (u32 i = 0; i < MESSAGES && i < messages; i++)
			left += vector_length(call.args[1], i);
	}
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MESSAGES && i < messages; i++) {
		u32 len = many ? vector_length(call.args[1], i) : ret;
		left -= len;
		if (len)
			on_call(key, (u64)len << 32 | left, way == SENDS, call.args[1],
				(u64)call.nr << 32 | (u32)call.args[2]);
	}
	if (c && c->ino)
		return 0;
	c = bpf_map_lookup_elem(&conns_by_sock, &key);
	if (c)
		c->ino = ino;
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state_storage, struct sock *sk, int old, int new)
{
	return on_state(sk, new, true);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state_hash, struct sock *sk, int old, int new)
{
	return on_state(sk, new, false);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(on_destroy_storage, struct sock *sk)
{
	return on_destroy(sk, true);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(on_destroy_hash, struct sock *sk)
{
	return on_destroy(sk, false);
}

SEC("iter/bpf_sk_storage_map")
int sweep_storage(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct conn *c = ctx->value;
	struct sock *sk = ctx->sk;

	if (!c || !sk || (c->phase != RESPONSE && c->phase != REQUEST))
		return 0;
	sweep(c, bpf_sk_storage_get(&payloads, sk, 0, 0), bpf_ktime_get_ns(), true);
	return 0;
}

enum { STALE_S = 120 };
static __always_inline bool is_stale(const struct conn *c, u64 now)
{
	u64 used = c->k.t_open > c->x.t_req_end ? c->k.t_open : c->x.t_req_end;

	if (c->x.t_rsp_end > used)
		used = c->x.t_rsp_end;
	return now - used > STALE_S * 1000000000ull;
}

SEC("iter/bpf_map_elem")
int sweep_hash(struct bpf_iter__bpf_map_elem *ctx)
{
	struct conn *c = ctx->value;
	u64 *at = ctx->key;

	if (!c || !at)
		return 0;
	u64 key = *at;
	if (c->phase != RESPONSE && c->phase != REQUEST) {
		/* Only of TCP sockets the end is told. One that is used again is met again. */
		if (c->k.protocol != IPPROTO_TCP && is_stale(c, bpf_ktime_get_ns())) {
			bpf_map_delete_elem(&payloads_by_sock, &key);
			bpf_map_delete_elem(&conns_by_sock, &key);
		}
		return 0;
	}
	sweep(c, bpf_map_lookup_elem(&payloads_by_sock, &key), bpf_ktime_get_ns(), false);
	return 0;
}

enum { LATE_S = 60 };
SEC("iter/bpf_map_elem")
int sweep_ends(struct bpf_iter__bpf_map_elem *ctx)
{
	u64 *at = ctx->key;
	struct ends *e = ctx->value;

	if (!at || !e || !e->gone || bpf_ktime_get_ns() - e->gone < LATE_S * 1000000000ull)
		return 0;
	u64 key = *at;
	bpf_map_delete_elem(&local_ends, &key);
	return 0;
}

/* Processes: user space forgets, or looks anew, who they are. */
static __always_inline int on_exit(bool storage)
{
	u64 id = bpf_get_current_pid_tgid();

	if (!storage)
		bpf_map_delete_elem(&threads_by_id, &id);
	if (id >> 32 == (u32)id) {
		forget_runtime(id >> 32);
		tell_process(PROCESS_EXIT);
	}
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit_storage)
{
	return on_exit(true);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit_hash)
{
	return on_exit(false);
}

static __always_inline int on_exec(u32 old_pid, bool storage)
{
	/* A thread that was not the leader now has the leader's id. */
	u64 id = (bpf_get_current_pid_tgid() & ~0xffffffffull) | old_pid;

	if (!storage && (u32)id != id >> 32)
		bpf_map_delete_elem(&threads_by_id, &id);
	forget_runtime(id >> 32);
	struct thread *t = known_thread(storage);
	if (t)
		t->epoch = 0;
	tell_process(PROCESS_EXEC);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec_storage, struct task_struct *task, int old_pid)
{
	return on_exec(old_pid, true);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec_hash, struct task_struct *task, int old_pid)
{
	return on_exec(old_pid, false);
}
