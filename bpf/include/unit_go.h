/* Go: the goroutine that makes a socket call, or in whose name it is made. */
#pragma once

#include "goroutine.h"

/* net/http's client: a connection has two goroutines of its own, which write requests and read responses for whoever waits.
 * The one that waits is found by way of the connection: pc.reqch holds the request in progress (requestAndChan) until its
 * response has begun, and at the channel in that its caller is parked. Owner: the connection, whose id is never used again;
 * found anew when it was forgotten. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, u64); /* where in the process the channel of its request in progress is told, or SHARED */
} go_connections SEC(".maps");
enum { SHARED = 1 }; /* requests of several are in progress: streams, of which probes tell */

struct go_channel {
	u64 count;
	u64 size;
	u64 buffer;
	u16 item;
};

/* end: of the loop's stack, above which nothing is. A connection is known by its channel: of one such item. */
static __always_inline u64 find_waiting(const struct go_runtime *r, u64 end)
{
	struct go_channel c;
	u64 pc = go_word(end - r->loop_slot), channel = pc ? go_word(pc + r->conn_reqch) : 0;

	if (!go_pointer(channel) || bpf_probe_read_user(&c, sizeof(c), (void *)channel))
		return 0;
	if (c.size != 1 || c.item != r->request_size || !go_pointer(c.buffer))
		return 0;
	return c.buffer + r->request_chan;
}

/* Who is parked at the channel of the request in progress. waitq.first, sudog.g: each at the beginning. */
static __always_inline bool read_waiter(const struct go_runtime *r, u64 waiting, struct goroutine *g)
{
	u64 channel = go_word(waiting), first = channel ? go_word(channel + r->chan_recvq) : 0;
	u64 waiter = first ? go_word(first) : 0;

	return waiter && read_goroutine(r, waiter, g);
}

/* The g of this thread: in a register, where no C is running, and else in its thread-local slot. One whose stack we are on
 * is it for sure. Returns the end of that stack, 0: no goroutine. */
static __always_inline u64 current_goroutine(const struct go_runtime *r, const struct unit_at *at, u64 *g)
{
	struct pt_regs *regs = (void *)at->regs;
	u64 stack[2], sp = 0;

	*g = 0;
	if (regs) {
		*g = BPF_CORE_READ(regs, GOROUTINE_REGISTER);
		sp = BPF_CORE_READ(regs, sp);
	}
	for (int i = 0; i < 2; i++) {
		if (go_pointer(*g) && !bpf_probe_read_user(stack, sizeof(stack), (void *)*g) && stack[0] < stack[1] &&
		    stack[1] - stack[0] <= GO_STACK_MOST && (!sp || (sp >= stack[0] && sp < stack[1])))
			return stack[1];
		*g = i ? 0 : go_word(at->fsbase + r->thread_slot);
	}
	return 0;
}

/* On a thread's own stack: the runtime's, or C that a goroutine has called. */
static __always_inline bool read_caller_of_c(const struct go_runtime *r, const struct unit_at *at, struct goroutine *g)
{
	u64 g0 = go_word(at->fsbase + r->thread_slot), m = g0 ? go_word(g0 + r->g_m) : 0;
	u64 current = m ? go_word(m + r->m_curg) : 0;

	return current && read_goroutine(r, current, g);
}

static __always_inline u64 go_unit(const struct go_runtime *r, const struct unit_at *at, bool send, bool client)
{
	u64 *known = client ? bpf_map_lookup_elem(&go_connections, &at->conn) : 0;
	u64 waiting = known ? *known : 0, end, self;
	const struct go_process p = { at->tgid, r->generation };
	struct goroutine g;

	if (waiting == SHARED) {
		if (!r->grpc_calls)
			want_probes(p.tgid, PROBES_GRPC_CLIENT);
		return UNIT(UNIT_OPAQUE, 0);
	}
	if (!waiting) {
		end = current_goroutine(r, at, &self);
		if (end ? !read_goroutine(r, self, &g) : !read_caller_of_c(r, at, &g))
			return UNIT(UNIT_OPAQUE, 0);
		if (client && g.start && (g.start == r->grpc_loops[0] || g.start == r->grpc_loops[1])) {
			if (g.start == r->grpc_loops[1])
				return UNIT(UNIT_OPAQUE, 0);
			has_streams(&p, &at->conn, g.goid, r->grpc_calls ? 0 : PROBES_GRPC_CLIENT);
			u64 conn = at->conn;
			waiting = SHARED;
			bpf_map_update_elem(&go_connections, &conn, &waiting, BPF_ANY);
			return UNIT(UNIT_OPAQUE, 0);
		}
		if (client && (g.start == r->read_loop || g.start == r->write_loop)) {
			waiting = r->read_loop && r->loop_slot && end ? find_waiting(r, end) : 0;
			if (!waiting)
				return UNIT(UNIT_OPAQUE, 0);
			u64 conn = at->conn;
			bpf_map_update_elem(&go_connections, &conn, &waiting, BPF_ANY);
		}
	}
	if (waiting) {
		if (!read_waiter(r, waiting, &g))
			return UNIT(UNIT_OPAQUE, 0);
	} else if (!client && send) {
		return root_answers(&p, g.goid);
	} else if (!client) {
		/* net/http waits for the next request while it answers one, in a goroutine made for that. */
		if (r->background && g.start == r->background && !(g.goid = g.parent))
			return UNIT(UNIT_OPAQUE, 0);
		if (g.start && (g.start == r->read_frames[0] || g.start == r->read_frames[1]))
			has_streams(&p, &at->conn, g.parent, r->streams ? 0 : PROBES_STREAMS);
		else if (g.start && g.start == r->grpc_reader)
			has_streams(&p, &at->conn, g.goid, r->grpc_serves ? 0 : PROBES_GRPC_SERVER);
		return root_receives(&p, g.goid);
	}
	return unit_of_goroutine(&p, &g);
}
