/* Handing records to user space. A connection is announced before its first exchange; an exchange whose connection
 * could not be announced is counted as lost, not sent without a name. */
#pragma once

#include "state.h"

enum { LOOK_EACH = 16 };
/* User space sleeps, for as long as rows may gather, unless a ring fills: one record of some looks whether it is full by
 * a quarter, a half, or three, and a sixteenth at most beyond: it is woken once, not all the time until it has come.
 * n: of the record, evenly distributed. */
static __always_inline u64 wakeup(void *ring, u64 n)
{
	if (n & (LOOK_EACH - 1))
		return BPF_RB_NO_WAKEUP;
	u64 sixteenths = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) * 16 / bpf_ringbuf_query(ring, BPF_RB_RING_SIZE);
	return sixteenths && !(sixteenths & 3) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline bool announce(struct conn *c, u64 now)
{
	if (c->t_announced && !c->changed && now - c->t_announced < config.announce_ns)
		return true;
	if (bpf_ringbuf_output(&connections, &c->k, sizeof(c->k), wakeup(&connections, now >> 10))) {
		lose(LOSS_RING_FULL_CONNECTION);
		return false;
	}
	c->t_announced = now;
	c->changed = 0;
	return true;
}

/* If *at is `old`, it becomes `value`; gives what it was. Written by hand, *(u64 *)(r1 + 0) with r0 and r2: a compiler has
 * the instruction where it may use all that is newer, which old kernels would be given, too. */
static __always_inline u64 compare_and_exchange(u64 *at, u64 old, u64 value)
{
	asm volatile("r0 = %[old]\n\tr1 = %[at]\n\tr2 = %[value]\n\t.8byte 0xf1000021db\n\t%[old] = r0"
		     : [old] "+r"(old)
		     : [at] "r"(at), [value] "r"(value)
		     : "r0", "r1", "r2", "memory");
	return old;
}

/* The sweep runs beside the thread that uses the connection: an exchange is sent by whoever takes its number. What the
 * sweep has copied before it took it, is whole: a thread changes more than the end of the response only after it has
 * taken it. modern: the kernel has atomic instructions (5.12); on others some ns remain in which both may. */
static __always_inline bool claim(struct conn *c, u64 number, bool modern)
{
	if (modern)
		return compare_and_exchange(&c->unsent, number, 0) == number;
	bool mine = c->unsent == number;
	if (mine)
		c->unsent = 0;
	return mine;
}

/* Gives whether there was room. *MINE: whether the exchange has been taken, which is done here, if need be, when all has
 * been copied; what another one has taken is not sent. In emit_here() alone: c, number and modern are its own. */
#define SEND_WITH_PAYLOAD(RING, RECORD, X, P, MINE)                                                                    \
	({                                                                                                             \
		struct RECORD *r = bpf_ringbuf_reserve(&RING, sizeof(struct RECORD), 0);                               \
		if (r) {                                                                                               \
			r->exchange = *(X);                                                                            \
			if (sizeof(r->request) > REQUEST_SMALL) {                                                      \
				bpf_probe_read_kernel(r->request, sizeof(r->request), (P)->request);                   \
				bpf_probe_read_kernel(r->response, sizeof(r->response), (P)->response);                \
			} else {                                                                                       \
				__builtin_memcpy(r->request, (P)->request, sizeof(r->request));                        \
				__builtin_memcpy(r->response, (P)->response, sizeof(r->response));                     \
			}                                                                                              \
			*(MINE) = *(MINE) || claim(c, number, modern);                                                 \
			if (*(MINE))                                                                                   \
				bpf_ringbuf_submit(r, wakeup(&RING, (X)->span_id));                                    \
			else                                                                                           \
				bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);                                              \
		}                                                                                                      \
		r != 0;                                                                                                \
	})

/* Sends an exchange. taken: by claim(); else x is a copy of it. `whole`: the record may be as large as it needs to be (it
 * is off the hot path), else only a long request makes it large. */
static __always_inline void emit_here(struct conn *c, struct exchange *x, struct payload *p, u64 now, u32 flags,
				      bool whole, bool taken, bool modern)
{
	bool amends = flags & EXCHANGE_AMENDS;
	u64 number = (u64)x->n + 1;
	bool sent = false;

	x->flags |= flags;
	if (x->req_cap < x->req_bytes)
		x->flags |= EXCHANGE_REQUEST_CUT;
	if (x->rsp_cap < x->rsp_bytes)
		x->flags |= EXCHANGE_RESPONSE_CUT;
	if (!announce(c, now)) {
		if (taken || claim(c, number, modern)) {
			count(amends ? STAT_AMENDED : STAT_ENDED, 1);
			lose(LOSS_RING_FULL_EXCHANGE);
		}
		return;
	}
	if (amends || !p || (x->flags & EXCHANGE_HEAD)) {
		x->flags |= EXCHANGE_HEAD;
		taken = taken || claim(c, number, modern);
		if (taken)
			sent = !bpf_ringbuf_output(&exchanges_head, x, sizeof(*x),
						   wakeup(&exchanges_head, x->span_id));
	} else if (x->req_cap > REQUEST_SMALL || (whole && (x->rsp_cap > RESPONSE_SMALL || !x->rsp_cap))) {
		sent = SEND_WITH_PAYLOAD(exchanges_large, record_large, x, p, &taken);
	} else {
		if (x->rsp_cap > RESPONSE_SMALL) {
			x->rsp_cap = RESPONSE_SMALL;
			x->flags |= EXCHANGE_RESPONSE_CUT;
		}
		sent = SEND_WITH_PAYLOAD(exchanges_small, record_small, x, p, &taken);
	}
	if (!taken && !claim(c, number, modern))
		return;
	count(amends ? STAT_AMENDED : STAT_ENDED, 1);
	if (!sent)
		lose(LOSS_RING_FULL_EXCHANGE);
}

/* A global function is verified once and not again at each of its calls, which keeps loading fast; kernels without the
 * sock_*_length hooks may lack pointer arguments for them and have all of it inline. */
__noinline int emit_global(struct conn *c, struct payload *p, u64 now, u32 flags, bool whole)
{
	if (c)
		emit_here(c, &c->x, p, now, flags, whole, true, true);
	return 0;
}

/* The exchange in progress, which has been claimed. */
static __always_inline void emit(struct conn *c, struct payload *p, u64 now, u32 flags, bool whole, bool modern)
{
	if (modern)
		emit_global(c, p, now, flags, whole);
	else
		emit_here(c, &c->x, p, now, flags, whole, true, false);
}
