/* The trace of a request within this host: its sender notes it before the first byte is sent, its receiver looks it up. What
 * the sender did not know then, and knows when its call is over, is looked up again when it is needed. */
#pragma once

#include "peer.h"
#include "sight.h"
#include "trace.h"

/* Where a request began that was sent on this host by who did not know its trace before, by its span: perhaps it is in
 * sent_traces later. */
RECENT(request_origins, u64, u64, 16384);

static __always_inline struct thread *calling_thread(void)
{
	u64 id = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&threads_by_id, &id);
}

static __always_inline bool is_known(const struct trace *sent)
{
	return sent && sent->id[0];
}

/* The trace of the request that this thread has open, if it was sent on this host and its sender has told it since. */
static __always_inline void look_up_origin(struct thread *thread)
{
	u32 doubts = 0;
	u64 cause = thread ? only_request(thread, &doubts) : 0;

	if (!cause || bpf_map_lookup_elem(&request_traces, &cause))
		return;
	u64 *place = bpf_map_lookup_elem(&request_origins, &cause);
	if (!place)
		return;
	u64 at = *place;
	struct trace *sent = bpf_map_lookup_elem(&sent_traces, &at);
	if (!is_known(sent))
		return;
	struct trace t = *sent;
	bpf_map_update_elem(&request_traces, &cause, &t, BPF_ANY);
}

/* Only where the other end may be on this host. */
static __always_inline bool is_noted(const struct conn *c)
{
	return c->k.peer || c->n <= TRIES;
}

/* For the other end: the trace of the request that begins, or began, at `seq`. */
static __always_inline void note_request(const struct conn *c, u32 seq, struct thread *thread, u64 span, bool http)
{
	struct trace t = {};

	look_up_origin(thread);
	settle_call(thread, span, http, &t);
	note_sent(c->k.key, seq, &t);
}

/* A client that was there before the agent is met when this call is over: its other end must not take the request's trace
 * for its own. */
static __always_inline void note_unmet(struct sock *sk)
{
	struct tcp_sock *tp = (void *)sk;
	struct trace t = {};

	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP && !is_elsewhere(sk) && connected_out(sk))
		note_sent(connection_key(sk, true), BPF_CORE_READ(tp, write_seq), &t);
}
