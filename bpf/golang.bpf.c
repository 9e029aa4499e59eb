/* Goroutines are born, and hand each other work by channels. Attached to the processes that need it, at call instructions
 * inside of Go's runtime: the kernel emulates those, and arguments (rax, rbx, rcx) and g (r14) are in their registers there.
 *
 * In runtime.newproc.func1 (on the system stack), the call of runqput(p, newg, next): a goroutine, before it can run.
 * In chansend, chanrecv and selectgo, with the channel locked:
 *   send(c, sg, …)                   to a receiver that waits (sg.g)
 *   recv(c, sg, …)                   from a sender that waits; if there is a buffer, it is full: its first value is taken,
 *                                    and the sender's is put in that place
 *   typedmemmove(type, to, from)     into the buffer, or out of it
 * In the goroutine of a stream of HTTP/2, the call of (*serverConn).runHandler(sc, rw, …).
 * In grpc-go, where a call is handled:
 *   operateHeaders(t, …)             by the goroutine that reads the frames of the transport t
 *   handleStream(s, st, stream, …)   by the one that handles the stream; st: itab and t
 * and where one is made:
 *   executeAndPut(c, f, it)          by the caller; it: itab and what it hands to the loop that writes
 *   writeHeader(l, id, end, hf, …)   by that loop */
#include "unit.h"

char LICENSE[] SEC("license") = "GPL";

#if defined(__TARGET_ARCH_x86)

/* Something at an address of a process. */
struct slot_key {
	u64 at;
	u32 tgid;
	u32 generation;
};
/* A value in a channel's buffer: who put it there. */
struct slot {
	u64 unit; /* for whom that goroutine worked, 0: not known */
	u64 goid;
};
/* A value lies there as long as it takes: what was put there longest ago makes room, and is nobody's. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct slot_key);
	__type(value, struct slot);
} slots SEC(".maps");

/* Before Go 1.21 a goroutine does not remember who made it, but this is who the thread works for. */
static __always_inline u64 maker(const struct go_runtime *r, u64 system)
{
	u64 m = go_word(system + r->g_m), current = m ? go_word(m + r->m_curg) : 0;

	return current ? go_word(current + r->g_goid) : 0;
}

static __always_inline void is_born(const struct go_runtime *r, const struct go_process *p, struct pt_regs *ctx)
{
	struct goroutine g;
	struct origin *of, *process, child = { .flags = GOROUTINE_BORN }, first = { .flags = GOROUTINE_OUTLIVED };

	if (!go_pointer(ctx->bx) || !read_goroutine(r, ctx->bx, &g))
		return;
	process = find_origin(p, 0);
	if (!process) /* from now on births are told: parentGoid is no longer asked */
		set_origin(p, 0, &first);
	else if (!(process->flags & GOROUTINE_OUTLIVED))
		process->flags |= GOROUTINE_OUTLIVED;
	if (g.start == r->read_loop || g.start == r->write_loop || g.start == r->background)
		return;
	of = find_origin(p, g.parent ? g.parent : maker(r, ctx->r14));
	child.born = of ? works_for(p, of) : 0;
	if (child.born)
		set_origin(p, g.goid, &child);
}

enum { RUNTIME_FRAMES = 5 };
/* Where in the program's own code the channel is used: the first return address beyond the runtime's; 0: not found, or in
 * a package whose channels pass connections and responses on between requests, which is no work. */
static __always_inline u64 user_place(const struct go_runtime *r, u64 frame)
{
	u64 near[2]; /* the frame above, and the address to which this one returns */

	for (int i = 0; i < RUNTIME_FRAMES; i++) {
		if (!go_pointer(frame) || bpf_probe_read_user(near, sizeof(near), (void *)frame))
			return 0;
		if (near[1] < r->runtime || near[1] >= r->runtime_end)
			break;
		frame = near[0];
	}
	if ((near[1] >= r->runtime && near[1] < r->runtime_end) ||
	    (near[1] >= r->net_http && near[1] < r->net_http_end) ||
	    (near[1] >= r->database && near[1] < r->database_end))
		return 0;
	return near[1];
}

/* A loop over a channel is a place; so is a select, whatever it gets. One place may also serve channels of all types. */
static __always_inline u64 place_and_type(u64 place, bool select, u64 type)
{
	return select ? place : place ^ type << 16;
}

enum { ESTABLISHED = 2, ENOUGH = 1 << 30 };
/* `to` is handed a value at a place by one that works for `unit` (0: nobody knows). */
static __always_inline void is_handed(const struct go_process *p, u64 unit, u64 to, u64 place)
{
	struct origin *o = find_origin(p, to), work = { .handed = unit, .by = place, .times = 1 };

	if (!o) {
		if (unit)
			set_origin(p, to, &work);
		return;
	}
	if (o->flags & GOROUTINE_ROOT || (!unit && o->flags & GOROUTINE_BORN && still_open(p, o->born)))
		return;
	if (!o->times) {
		o->handed = unit;
		o->by = place;
		o->times = 1;
	} else if (o->by == place) {
		if (o->handed != unit)
			o->flags |= GOROUTINE_CHANGED;
		o->handed = unit;
		if (o->times < ENOUGH)
			o->times++;
	} else if (o->handed != unit) {
		if (unit && (o->times < ESTABLISHED || o->flags & GOROUTINE_DISTURBED))
			o->flags |= GOROUTINE_MIXED;
		if (unit) {
			o->flags |= GOROUTINE_DISTURBED | GOROUTINE_ELSEWHERE;
			o->agreed = 0;
		}
		o->handed = 0; /* until it is handed work again in the usual way */
	} else if (unit) {
		if (o->flags & GOROUTINE_CHANGED && o->agreed < LEADS)
			o->agreed++;
		o->flags = (o->flags & ~GOROUTINE_CHANGED) | GOROUTINE_ELSEWHERE;
	}
}

static __always_inline u64 work_of(const struct go_process *p, u64 goid)
{
	struct origin *o = find_origin(p, goid);

	return o ? works_for(p, o) : 0;
}

static __always_inline bool is_root(const struct go_process *p, u64 goid)
{
	struct origin *o = find_origin(p, goid);

	return o && o->flags & GOROUTINE_ROOT;
}

enum { TOKEN = 1 }; /* bytes of a value that is a signal, and no work */
/* place: 0 if it is plumbing. */
static __always_inline void put(const struct go_process *p, u64 at, u64 goid, u64 place)
{
	struct slot_key key = { at, p->tgid, p->generation };
	struct slot s = { .goid = goid };

	if (!goid || !place) {
		bpf_map_delete_elem(&slots, &key);
		return;
	}
	s.unit = work_of(p, goid);
	bpf_map_update_elem(&slots, &key, &s, BPF_ANY);
}

/* What nobody is known to have put there is from nobody known. */
static __always_inline void take(const struct go_process *p, u64 at, u64 goid, u64 place)
{
	struct slot_key key = { at, p->tgid, p->generation };
	struct slot *s = bpf_map_lookup_elem(&slots, &key);

	if (place && (!s || s->goid != goid))
		is_handed(p, s ? s->unit : 0, goid, place);
	if (s)
		bpf_map_delete_elem(&slots, &key);
}

static __always_inline void sent(const struct go_runtime *r, const struct go_process *p, struct pt_regs *ctx)
{
	u64 receiver = go_word(ctx->bx), to = receiver ? go_word(receiver + r->g_goid) : 0;
	u64 from = go_word(ctx->r14 + r->g_goid), place;
	struct go_channel c;
	u8 select = 0;

	if (!to || is_root(p, to) || !go_pointer(ctx->ax) || bpf_probe_read_user(&c, sizeof(c), (void *)ctx->ax) ||
	    c.item <= TOKEN || !user_place(r, ctx->bp))
		return;
	place = user_place(r, go_word(receiver + r->g_frame));
	if (!place || bpf_probe_read_user(&select, sizeof(select), (void *)(ctx->bx + r->sudog_select)))
		return;
	/* From nobody: a timer. */
	is_handed(p, from ? work_of(p, from) : 0, to,
		  place_and_type(place, select, go_word(ctx->ax + r->chan_elemtype)));
}

static __always_inline void received(const struct go_runtime *r, const struct go_process *p, struct pt_regs *ctx,
				     bool select)
{
	u64 sender = go_word(ctx->bx), from = sender ? go_word(sender + r->g_goid) : 0;
	u64 to = go_word(ctx->r14 + r->g_goid), place, at;
	struct go_channel c;

	if (!to || !from || !go_pointer(ctx->ax) || bpf_probe_read_user(&c, sizeof(c), (void *)ctx->ax) ||
	    c.item <= TOKEN)
		return;
	place = user_place(r, ctx->bp);
	if (place)
		place = place_and_type(place, select, go_word(ctx->ax + r->chan_elemtype));
	if (c.size) {
		at = c.buffer + go_word(ctx->ax + r->chan_recvx) * c.item;
		take(p, at, to, place);
		put(p, at, from, place);
	} else if (place && !is_root(p, to)) {
		is_handed(p, work_of(p, from), to, place);
	}
}

static __always_inline void put_in(const struct go_runtime *r, const struct go_process *p, struct pt_regs *ctx)
{
	if (go_word(ctx->ax) > TOKEN) /* the type's size */
		put(p, ctx->bx, go_word(ctx->r14 + r->g_goid), user_place(r, ctx->bp));
}

static __always_inline void took_out(const struct go_runtime *r, const struct go_process *p, struct pt_regs *ctx,
				     bool select)
{
	u64 goid = go_word(ctx->r14 + r->g_goid), place;

	if (!goid || go_word(ctx->ax) <= TOKEN || is_root(p, goid))
		return;
	place = user_place(r, ctx->bp);
	take(p, ctx->cx, goid, place ? place_and_type(place, select, ctx->ax) : 0);
}

/* rw.rws.stream is { sc, id, … }: each is the first of its struct, and the way leads back to sc. */
static __always_inline void handles(const struct go_runtime *r, const struct go_process *p, struct pt_regs *ctx)
{
	u64 rws = go_word(ctx->bx), stream = rws ? go_word(rws) : 0, unit;
	struct goroutine g;
	u32 id;

	if (!stream || go_word(stream) != ctx->ax || bpf_probe_read_user(&id, sizeof(id), (void *)(stream + 8)) ||
	    !(id & 1) || id >> 31 || !read_goroutine(r, ctx->r14, &g) || !g.parent)
		return;
	struct stream_key key = { g.parent, p->tgid, p->generation, id };
	unit = root_receives(p, g.goid);
	if (bpf_map_update_elem(&go_streams, &key, &unit, BPF_ANY))
		lose(LOSS_NO_ANCESTRY);
}

/* Which goroutine reads the frames of the transport at an address. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct slot_key);
	__type(value, u64); /* goid */
} go_transports SEC(".maps");
/* For whom a request is made that its caller has handed to the loop of a client's transport, by the address of its header
 * fields. The loop takes it out. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct slot_key);
	__type(value, u64); /* unit */
} go_asked SEC(".maps");

static __always_inline void grpc_reads(const struct go_runtime *r, const struct go_process *p, struct pt_regs *ctx)
{
	struct slot_key key = { ctx->ax, p->tgid, p->generation };
	u64 goid = go_word(ctx->r14 + r->g_goid), *known = bpf_map_lookup_elem(&go_transports, &key);

	if (!goid || (known && *known == goid))
		return;
	if (bpf_map_update_elem(&go_transports, &key, &goid, BPF_ANY))
		lose(LOSS_NO_ANCESTRY);
}

/* The stream's number, 0: there is none. stream.st leads back to the transport. */
static __always_inline u32 number_of_stream(const struct go_runtime *r, u64 stream, u64 transport)
{
	u64 inside = r->stream_pointer ? go_word(stream) : stream;
	u32 id;

	if (go_word(stream + r->stream_transport + 8) != transport || !go_pointer(inside) ||
	    bpf_probe_read_user(&id, sizeof(id), (void *)(inside + r->stream_id)) || id >> 31)
		return 0;
	return id & 1 ? id : 0;
}

/* The transport of net/http's server has no goroutine of its own, and what handles its streams is born of their handlers;
 * or it is one of a pool, which then works for nobody that is known. */
static __always_inline void grpc_handles(const struct go_runtime *r, const struct go_process *p, struct pt_regs *ctx)
{
	struct slot_key transport = { ctx->cx, p->tgid, p->generation };
	u64 *reader = bpf_map_lookup_elem(&go_transports, &transport), goid = go_word(ctx->r14 + r->g_goid), unit;
	u32 id = reader ? number_of_stream(r, ctx->di, ctx->cx) : 0;

	if (!goid || (!id && !is_root(p, goid)))
		return;
	unit = root_receives(p, goid);
	if (!id || !reader)
		return;
	struct stream_key key = { *reader, p->tgid, p->generation, id };
	struct origin *root = find_origin(p, goid);
	if (root)
		root->flags |= GOROUTINE_TRAILERS;
	if (bpf_map_update_elem(&go_streams, &key, &unit, BPF_ANY))
		lose(LOSS_NO_ANCESTRY);
}

enum { HEADER_FIELDS = 8 }; /* in headerFrame, clientHeaders: what is not so is not found again */
static __always_inline void grpc_asks(const struct go_runtime *r, const struct go_process *p, struct pt_regs *ctx)
{
	struct slot_key fields = { go_word(ctx->di + HEADER_FIELDS), p->tgid, p->generation };
	struct goroutine g;
	u64 unit;

	if (!fields.at || !read_goroutine(r, ctx->r14, &g))
		return;
	unit = unit_of_goroutine(p, &g);
	if (bpf_map_update_elem(&go_asked, &fields, &unit, BPF_ANY))
		lose(LOSS_NO_ANCESTRY);
}

static __always_inline void grpc_writes(const struct go_runtime *r, const struct go_process *p, struct pt_regs *ctx)
{
	struct slot_key fields = { ctx->di, p->tgid, p->generation };
	u64 *asked = bpf_map_lookup_elem(&go_asked, &fields), goid = go_word(ctx->r14 + r->g_goid), unit;

	if (!asked || !goid)
		return;
	struct stream_key key = { goid, p->tgid, p->generation, (u32)ctx->bx };
	unit = *asked;
	bpf_map_delete_elem(&go_asked, &fields);
	if (bpf_map_update_elem(&go_streams, &key, &unit, BPF_ANY))
		lose(LOSS_NO_ANCESTRY);
}

#define PROGRAM(NAME, ATTACHED, BODY)                                                                                  \
	static __always_inline int NAME(struct pt_regs *ctx)                                                           \
	{                                                                                                              \
		u32 tgid = bpf_get_current_pid_tgid() >> 32;                                                           \
		const struct runtime *found = bpf_map_lookup_elem(&runtimes, &tgid);                                   \
		count_hit(tgid);                                                                                       \
		if (!found || found->kind != RUNTIME_GO || !found->go.ATTACHED)                                        \
			return 0;                                                                                      \
		const struct go_runtime *r = &found->go;                                                               \
		const struct go_process process = { tgid, r->generation }, *p = &process;                              \
		BODY;                                                                                                  \
		return 0;                                                                                              \
	}                                                                                                              \
	SEC("uprobe") int NAME##_storage(struct pt_regs *ctx)                                                          \
	{                                                                                                              \
		return NAME(ctx);                                                                                      \
	}                                                                                                              \
	SEC("uprobe") int NAME##_hash(struct pt_regs *ctx)                                                             \
	{                                                                                                              \
		return NAME(ctx);                                                                                      \
	}

PROGRAM(go_born, probed, is_born(r, p, ctx))
PROGRAM(go_sent, probed, sent(r, p, ctx))
PROGRAM(go_received, probed, received(r, p, ctx, false))
PROGRAM(go_selected, probed, received(r, p, ctx, true))
PROGRAM(go_put, probed, put_in(r, p, ctx))
PROGRAM(go_took, probed, took_out(r, p, ctx, false))
PROGRAM(go_picked, probed, took_out(r, p, ctx, true))
PROGRAM(go_handles, streams, handles(r, p, ctx))
PROGRAM(go_grpc_reads, grpc_serves, grpc_reads(r, p, ctx))
PROGRAM(go_grpc_handles, grpc_serves, grpc_handles(r, p, ctx))
PROGRAM(go_grpc_asks, grpc_calls, grpc_asks(r, p, ctx))
PROGRAM(go_grpc_writes, grpc_calls, grpc_writes(r, p, ctx))

#endif
