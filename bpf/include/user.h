/* Where the bytes of the current socket syscall lie in user space, and copying them from there.
 * The arguments are still in pt_regs when the syscall ends, so nothing is kept from its entry. */
#pragma once

#include "state.h"

struct syscall {
	long nr;
	u64 args[4];
};

#if defined(__TARGET_ARCH_x86)
enum nr {
	NR_read = 0,
	NR_write = 1,
	NR_readv = 19,
	NR_writev = 20,
	NR_sendto = 44,
	NR_recvfrom = 45,
	NR_sendmsg = 46,
	NR_recvmsg = 47,
	NR_recvmmsg = 299,
	NR_sendmmsg = 307,
	NR_sendfile = 40,
	NR_splice = 275,
};
enum { USER32_CS = 0x23 };
static __always_inline void read_syscall(struct syscall *s, struct pt_regs *regs, bool direct)
{
	if (direct) {
		/* While a call runs, ax holds what its entry put there: after it, io_uring may work in its name. */
		s->nr = regs->cs == USER32_CS || (long)regs->ax != -ENOSYS ? -1 : (long)regs->orig_ax;
		s->args[0] = regs->di;
		s->args[1] = regs->si;
		s->args[2] = regs->dx;
		s->args[3] = regs->r10;
		return;
	}
	s->nr = BPF_CORE_READ(regs, cs) == USER32_CS ? -1 : (long)BPF_CORE_READ(regs, orig_ax);
	s->args[0] = BPF_CORE_READ(regs, di);
	s->args[1] = BPF_CORE_READ(regs, si);
	s->args[2] = BPF_CORE_READ(regs, dx);
	s->args[3] = BPF_CORE_READ(regs, r10);
}
#else
enum nr {
	NR_read = 63,
	NR_write = 64,
	NR_readv = 65,
	NR_writev = 66,
	NR_sendto = 206,
	NR_recvfrom = 207,
	NR_sendmsg = 211,
	NR_recvmsg = 212,
	NR_recvmmsg = 243,
	NR_sendmmsg = 269,
	NR_sendfile = 71,
	NR_splice = 76,
};
enum { PSR_MODE32_BIT = 0x10 };
static __always_inline void read_syscall(struct syscall *s, struct pt_regs *regs, bool direct)
{
	s->nr = BPF_CORE_READ(regs, pstate) & PSR_MODE32_BIT ? -1 : BPF_CORE_READ(regs, syscallno);
	/* regs[0] has been overwritten by the result; the descriptor is in orig_x0. */
	s->args[0] = BPF_CORE_READ(regs, orig_x0);
	s->args[1] = BPF_CORE_READ(regs, regs[1]);
	s->args[2] = BPF_CORE_READ(regs, regs[2]);
	s->args[3] = BPF_CORE_READ(regs, regs[3]);
}
#endif

/* Which message of a sendmmsg/recvmmsg this is: they come in order, with nothing else of this thread in between. */
static __always_inline u32 vector_index(struct thread *t, const struct syscall *s)
{
	if (t->vector != s->args[1] || t->vector_events != t->events || t->vector_at >= (u32)s->args[2]) {
		t->vector = s->args[1];
		t->vector_at = 0;
	}
	t->vector_events = t->events + 1;
	return t->vector_at++;
}

static __always_inline void find_source(struct source *from, struct thread *t, const struct syscall *s)
{
	struct user_msghdr64 header;
	u64 at = s->args[1];

	from->base = from->vector = from->buffers = 0;
	switch (s->nr) {
	case NR_read:
	case NR_write:
	case NR_sendto:
	case NR_recvfrom:
		from->base = at;
		return;
	case NR_readv:
	case NR_writev:
		from->vector = at;
		from->buffers = s->args[2];
		return;
	case NR_sendmmsg:
	case NR_recvmmsg:
		at += (u64)vector_index(t, s) * sizeof(struct user_mmsghdr64);
		break;
	case NR_sendmsg:
	case NR_recvmsg:
		break;
	default: /* io_uring, sendfile, splice, 32 bit: sizes and times only */
		return;
	}
	if (bpf_probe_read_user(&header, sizeof(header), (void *)at))
		return;
	from->vector = header.iov;
	from->buffers = header.iovlen;
}

/* Copies at most `len` bytes to area[have…max), where max is a power of two and `area` has 1.5 * max bytes: the verifier
 * does not relate offset and length, but is told that in the upper half at most a half can follow. Returns how many; 0 on
 * a fault. */
static __always_inline u32 copy_bytes(u8 *area, u32 have, u32 max, u64 from, u64 len)
{
	u64 at = have, room = max;

	if (len > max - have)
		len = max - have;
	asm volatile(""
		     : "+r"(len), "+r"(at)); /* the compiler knows these bounds already; the verifier must see them */
	if (at & (max / 2)) {
		at &= max - 1;
		room = max / 2;
	} else {
		at &= max / 2 - 1;
	}
	if (len > room)
		len = room;
	if (bpf_probe_read_user(area + at, len, (void *)from))
		return 0;
	return len;
}

/* Copying a vector, for bpf_loop. `at` lies in a map: the verifier knows nothing of what is loaded from there, and so
 * sees at once that one iteration is like the other. */
struct gather {
	u8 *area;
	struct cursor *at;
};

/* One buffer of the vector; 1 = stop. */
static __always_inline long gather_one(u32 i, struct gather *g, u32 max)
{
	struct cursor *at = g->at;
	struct user_iovec v;
	u32 have = at->have, len, got;

	if (have >= max || !at->left || bpf_probe_read_user(&v, sizeof(v), (void *)(at->vector + i * sizeof(v))))
		return 1;
	len = v.len < at->left ? v.len : at->left;
	got = copy_bytes(g->area, have, max, v.base, len);
	at->have = have + got;
	at->left -= len;
	return !got && len; /* not present: what follows would lie at the wrong place */
}

static long gather_request(u32 i, void *g)
{
	return gather_one(i, g, REQUEST_LARGE);
}

static long gather_response(u32 i, void *g)
{
	return gather_one(i, g, RESPONSE_LARGE);
}

enum { BUFFERS = 16, BUFFERS_OLD = 8 };

static __always_inline void gather_all(u8 *area, struct cursor *at, u32 buffers, u32 max)
{
	struct gather g = { area, at };

	for (u32 i = 0; i < BUFFERS_OLD && i < buffers; i++)
		if (gather_one(i, &g, max))
			break;
}

/* The same without bpf_loop. A global function, so that the verifier sees the loop once and not with all that may come
 * before and after it; older kernels give it no pointers, so it finds for itself what it works on. */
__noinline int gather_apart(u64 sock, u32 buffers, u32 max)
{
	struct payload *p = bpf_map_lookup_elem(&payloads_by_sock, &sock);
	struct thread *t = this_thread(false);

	if (!p || !t)
		return 0;
	if (max == REQUEST_LARGE)
		gather_all(p->request, &t->cursor, buffers, REQUEST_LARGE);
	else
		gather_all(p->response, &t->cursor, buffers, RESPONSE_LARGE);
	return 0;
}

/* Appends what the `total` bytes of the message hold to area[have…max); returns the new number of valid bytes. */
static __always_inline u32 copy_in(u8 *area, u32 have, u32 max, const struct source *from, u32 total, struct thread *t,
				   bool modern)
{
	if (have >= max)
		return max;
	if (from->base)
		return have + copy_bytes(area, have, max, from->base, total);
	if (!from->buffers || !t)
		return have;
	struct gather g = { area, &t->cursor };
	t->cursor.vector = from->vector;
	t->cursor.have = have;
	t->cursor.left = total;
	if (!modern)
		gather_apart(from->sock, from->buffers, max);
	else if (max == REQUEST_LARGE)
		bpf_loop(from->buffers < BUFFERS ? from->buffers : BUFFERS, gather_request, &g, 0);
	else
		bpf_loop(from->buffers < BUFFERS ? from->buffers : BUFFERS, gather_response, &g, 0);
	have = t->cursor.have;
	return have < max ? have : max;
}
