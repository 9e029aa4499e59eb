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

#define SEND_WITH_PAYLOAD(RING, RECORD, X, P)                                                                          \
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
			bpf_ringbuf_submit(r, wakeup(&RING, (X)->span_id));                                            \
		}                                                                                                      \
		r != 0;                                                                                                \
	})

/* Sends the exchange in progress. `whole`: the record may be as large as it needs to be (it is off the hot path), else
 * only a long request makes it large. */
static __always_inline void emit_here(struct conn *c, struct payload *p, u64 now, u32 flags, bool whole)
{
	struct exchange *x = &c->x;
	bool amends = flags & EXCHANGE_AMENDS;
	bool sent;

	count(amends ? STAT_AMENDED : STAT_ENDED, 1);
	x->flags |= flags;
	if (x->req_cap < x->req_bytes)
		x->flags |= EXCHANGE_REQUEST_CUT;
	if (x->rsp_cap < x->rsp_bytes)
		x->flags |= EXCHANGE_RESPONSE_CUT;
	if (!announce(c, now)) {
		lose(LOSS_RING_FULL_EXCHANGE);
		return;
	}
	if (amends || !p || (x->flags & EXCHANGE_HEAD)) {
		x->flags |= EXCHANGE_HEAD;
		sent = !bpf_ringbuf_output(&exchanges_head, x, sizeof(*x), wakeup(&exchanges_head, x->span_id));
	} else if (x->req_cap > REQUEST_SMALL || (whole && x->rsp_cap > RESPONSE_SMALL)) {
		sent = SEND_WITH_PAYLOAD(exchanges_large, record_large, x, p);
	} else {
		if (x->rsp_cap > RESPONSE_SMALL) {
			x->rsp_cap = RESPONSE_SMALL;
			x->flags |= EXCHANGE_RESPONSE_CUT;
		}
		sent = SEND_WITH_PAYLOAD(exchanges_small, record_small, x, p);
	}
	if (!sent)
		lose(LOSS_RING_FULL_EXCHANGE);
}

/* A global function is verified once and not again at each of its calls, which keeps loading fast; kernels without the
 * sock_*_length hooks may lack pointer arguments for them and have all of it inline. */
__noinline int emit_global(struct conn *c, struct payload *p, u64 now, u32 flags, bool whole)
{
	if (c)
		emit_here(c, p, now, flags, whole);
	return 0;
}

static __always_inline void emit(struct conn *c, struct payload *p, u64 now, u32 flags, bool whole, bool modern)
{
	if (modern)
		emit_global(c, p, now, flags, whole);
	else
		emit_here(c, p, now, flags, whole);
}
