/* Which socket a system call is about, and which way its bytes go. */
#pragma once

#include "user.h"

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
