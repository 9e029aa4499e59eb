/* The front of kernels without sock_*_length: each system call at its end, of which few are about sockets. */
#pragma once

#include "descriptor.h"
#include "stream.h"

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
