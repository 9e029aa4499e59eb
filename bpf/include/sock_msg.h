/* What an sk_msg program sees of a message (include/uapi/linux/bpf.h), and how a header is put into it. The program runs in
 * the call that sends, with the socket locked, before anything of the message is queued. */
#pragma once

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct bpf_sock;
struct sk_msg_md {
	union {
		void *data;
		u64 : 64;
	} __attribute__((aligned(8)));
	union {
		void *data_end;
		u64 : 64;
	} __attribute__((aligned(8)));
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 size;
	union {
		struct bpf_sock *sk;
		u64 : 64;
	} __attribute__((aligned(8)));
};
enum sk_verdict { SK_DROP, SK_PASS };

/* RFC 9110 §5.1 and W3C Trace Context §3.2: traceparent: 00-<trace id>-<span id>-01 */
#define HEADER "traceparent: 00-"
enum { TRACE_AT = sizeof(HEADER) - 1, SPAN_AT = TRACE_AT + 33, FLAGS_AT = SPAN_AT + 17, HEADER_LEN = FLAGS_AT + 4 };

static __always_inline u8 digit_of(u8 nibble)
{
	return nibble + (nibble < 10 ? '0' : 'a' - 10);
}

/* The bytes of `id` in the order in which they lie in memory. */
static __always_inline void write_hex(u8 *to, u64 id)
{
#pragma clang loop unroll(disable) /* the stack is short */
	for (u32 i = 0; i < 16; i += 2, id >>= 8) {
		to[i] = digit_of(id >> 4 & 15);
		to[i + 1] = digit_of(id & 15);
	}
}

enum {
	HEAD_MOST = 4096,  /* of a head, what is looked at */
	WHOLE_MOST = 8192, /* a message up to here stays in one piece; longer ones in two */
};

/* Writes the header at `at` of the message; 0: it is there. Of its own, as it needs much of the stack. */
__noinline int write_header(struct sk_msg_md *m, u32 at, u64 trace_begin, u64 trace_end, u64 span)
{
	u8 *to = m->data + (at & (HEAD_MOST - 1));

	if ((void *)(to + HEADER_LEN) > m->data_end)
		return -1;
	__builtin_memcpy(to, HEADER, TRACE_AT);
	write_hex(to + TRACE_AT, trace_begin);
	write_hex(to + TRACE_AT + 16, trace_end);
	to[SPAN_AT - 1] = '-';
	write_hex(to + SPAN_AT, span);
	to[FLAGS_AT - 1] = '-';
	to[FLAGS_AT] = '0';
	to[FLAGS_AT + 1] = '1';
	to[FLAGS_AT + 2] = '\r';
	to[FLAGS_AT + 3] = '\n';
	return 0;
}

/* Will the kernel take the message as it becomes, or nothing of it? If it takes a part, it says how much by counting from
 * the end, so the header must not be in what it has not taken; kernels before 6.13 say a negative number, which is an
 * errno nobody expects, when it takes nothing. So: nothing is wrong with the connection, nothing waits to be sent, and the
 * header ends in the first segment. */
static __always_inline bool may_push(u64 sock, u32 line)
{
	struct sock *sk = (void *)sock;
	struct tcp_sock *tp = (void *)sock;
	u32 queued = BPF_CORE_READ(sk, sk_wmem_queued), room = BPF_CORE_READ(sk, sk_sndbuf);

	return BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_ESTABLISHED && !BPF_CORE_READ(sk, sk_err) &&
	       !(BPF_CORE_READ(sk, sk_shutdown) & SHUTDOWN_BOTH) &&
	       BPF_CORE_READ(tp, snd_nxt) == BPF_CORE_READ(tp, write_seq) && queued < room / 4 &&
	       line + HEADER_LEN <= BPF_CORE_READ(tp, mss_cache);
}

/* Puts the header behind the request line, whose line feed is the byte before `line`; `head` bytes are the whole head.
 * SK_DROP: the message is spoilt, which the kernel's code has no way to. */
static __always_inline enum sk_verdict push_header(struct sk_msg_md *m, u32 line, u32 head, const u64 trace[2],
						   u64 span, bool *pushed)
{
	u32 whole = m->size <= WHOLE_MOST ? m->size : head;

	*pushed = false;
	if (bpf_msg_push_data(m, line, HEADER_LEN, 0))
		return SK_PASS;
	/* In one piece: else each piece would be sent as it comes, and the last would wait for the first one's
	 * acknowledgement (Nagle). */
	if (!bpf_msg_pull_data(m, 0, whole + HEADER_LEN, 0) && !write_header(m, line, trace[0], trace[1], span)) {
		*pushed = true;
		return SK_PASS;
	}
	return bpf_msg_pop_data(m, line, HEADER_LEN, 0) ? SK_DROP : SK_PASS;
}

/* A call that waits on the socket, while it is in a map, says EAGAIN when a signal or a reset comes (net/ipv4/tcp_bpf.c:
 * tcp_msg_wait_data). Descriptors that never wait do not notice. */
static __always_inline bool may_wait(u64 sock)
{
	struct sock *sk = (void *)sock;

	return !(BPF_CORE_READ(sk, sk_socket, file, f_flags) & O_NONBLOCK);
}

/* Sends that announce their end (MSG_ZEROCOPY) are not announced by sockets in a map, on kernels before 6.5. */
static __always_inline bool announces(u64 sock)
{
	struct sock *sk = (void *)sock;

	return BPF_CORE_READ(sk, __sk_common.skc_flags) & 1ul << bpf_core_enum_value(enum sock_flags, SOCK_ZEROCOPY);
}
