/* The front of kernels without sock_*_length: each system call at its end, of which few are about sockets. */
#pragma once

#include "stream.h"

/* The socket behind a descriptor of this process, and its inode number: a struct sock may be used again, that not. */
static __always_inline struct sock *socket_of(u32 fd, u64 *ino)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file;
	struct socket *socket;

	if (fd >= BPF_CORE_READ(table, max_fds) || bpf_probe_read_kernel(&file, sizeof(file), files + fd) || !file)
		return 0;
	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	*ino = BPF_CORE_READ(file, f_inode, i_ino);
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

enum direction { NO_SOCKET_CALL, SENDS, RECEIVES };
static __always_inline enum direction direction_of(const struct syscall *call)
{
	switch (call->nr) {
	case NR_write:
	case NR_writev:
	case NR_sendto:
	case NR_sendmsg:
	case NR_sendmmsg:
	case NR_sendfile:
	case NR_splice:
		return SENDS;
	case NR_read:
	case NR_readv:
		return RECEIVES;
	case NR_recvfrom:
		return call->args[3] & MSG_PEEK ? NO_SOCKET_CALL : RECEIVES;
	case NR_recvmsg:
		return call->args[2] & MSG_PEEK ? NO_SOCKET_CALL : RECEIVES;
	case NR_recvmmsg:
		return RECEIVES;
	default:
		return NO_SOCKET_CALL;
	}
}

/* sendmmsg and recvmmsg return how many messages they moved; each says in its header how long it was. */
static __noinline u32 vector_length(u64 vector, u32 i)
{
	struct user_mmsghdr64 m;

	if (bpf_probe_read_user(&m, sizeof(m), (void *)(vector + i * sizeof(m))))
		return 0;
	return (u32)m.len;
}

/* A global function: verified once, not for each message of a call. Older kernels give it numbers only. */
__noinline int on_call(u64 sk, u64 moved_behind, u32 sends, u64 argument_2, u64 nr_argument_3)
{
	const struct syscall call = { nr_argument_3 >> 32, { 0, argument_2, (u32)nr_argument_3 } };
	struct thread *t = this_thread(false);

	if (!t) {
		lose(LOSS_NO_THREAD_STATE);
		return 0;
	}
	struct message *m = &t->message; /* the stack is short: three functions deep, 512 bytes in all */
	__builtin_memset(m, 0, sizeof(*m));
	m->len = moved_behind >> 32;
	m->send = sends;
	m->from.sock = sk;
	return on_socket((void *)sk, m, false, &call, (u32)moved_behind);
}
