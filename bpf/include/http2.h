/* HTTP/2 (RFC 9113): the streams of a connection do not take turns, so its messages are not paired (pair.h) but walked,
 * frame by frame, and what the frames say is told to user space, which makes exchanges of it.
 *
 * Theory of operation. A connection speaks HTTP/2 for good from where its client sends the preface, or its server, which
 * may be first, its SETTINGS; one that was there before it was first seen does when a message is, by a strict check, a
 * chain of frames. Each end walks over its messages in both directions. Where a walk has got to lies in the connection,
 * so that a frame may begin and end anywhere in a message; while a message is in hand it lies in the thread (`struct
 * feeding`), where bpf_loop, or the loop of older kernels, takes one step after the other:
 *
 *   head      the nine bytes of a frame's header, then the few before its content (padding, priority, error code)
 *   content   a header block is copied into records, in pieces; DATA is counted; all else is passed over
 *
 * Each direction has a sequence of records of its own, as two threads may move them at once; user space sees by its gaps
 * what was lost. When bytes cannot be read (sendfile, splice, io_uring, a fault) the walk goes on if they are content;
 * else frames of that direction cannot be told apart any more, and it ends there. */
#pragma once

#include "emit.h"
#include "http2_frame.h"
#include "unit.h"
#include "user.h"

RING(frames_head, 1 << 20);
RING(frames_small, 1 << 21);
RING(frames_large, 1 << 20);

/* ---- records ---- */

static __always_inline u64 stream_span(const struct feeding *f, u32 stream)
{
	return span_of(f->frame.conn, f->spans + (stream >> 1));
}

/* A long piece of a block goes from the user's memory into its record; false: it could not be read. */
static __always_inline bool send_large(struct feeding *f, u64 len)
{
	struct frame_large *r = bpf_ringbuf_reserve(&frames_large, sizeof(*r), 0);

	if (!r) {
		lose(LOSS_RING_FULL_FRAME);
		return true;
	}
	asm volatile("" : "+r"(len)); /* the verifier must see its bound */
	bool read = len <= sizeof(r->block) && !bpf_probe_read_user(r->block, len, (void *)f->from);
	if (!read) {
		f->frame.cap = 0;
		f->frame.bits |= FRAME_CUT;
	}
	r->frame = f->frame;
	bpf_ringbuf_submit(r, wakeup(&frames_large, f->frame.span_id + f->frame.n));
	return read;
}

/* Sends the thread's record, and with it `block` bytes: those in f->block, or if they are more the next of the message.
 * Returns false if those could not be read. */
static __noinline bool tell_frame(struct thread *t, u32 kind, u32 bits, u32 block)
{
	struct feeding *f = &t->feeding;
	struct frame *r = &f->frame;
	bool read = true;
	long full = 0;

	r->kind = kind;
	r->bits = bits | (f->request ? FRAME_REQUEST : 0);
	r->flags |= f->flags;
	r->span_id = stream_span(f, r->stream);
	r->n = f->walk.n++;
	r->cap = block;
	if (f->mute)
		lose(r->conn ? LOSS_RING_FULL_FRAME : LOSS_TLS_UNBOUND);
	else if (!block)
		full = bpf_ringbuf_output(&frames_head, r, sizeof(*r), wakeup(&frames_head, r->span_id + r->n));
	else if (block <= FRAME_BLOCK_SMALL)
		full = bpf_ringbuf_output(&frames_small, r, sizeof(struct frame_small),
					  wakeup(&frames_small, r->span_id + r->n));
	else
		read = send_large(f, block);
	if (full)
		lose(LOSS_RING_FULL_FRAME);
	if (!read)
		lose(LOSS_PAYLOAD_FAULT);
	r->cause = r->after = 0;
	r->unit = t->unit;
	r->bytes = 0;
	r->flags = r->error = 0;
	return read;
}

/* What has been gathered of a stream's DATA. */
static __always_inline void tell_data(struct thread *t, u32 bits)
{
	struct feeding *f = &t->feeding;

	if (!f->data)
		return;
	f->frame.stream = f->data;
	f->frame.bytes = f->gathered;
	f->data = 0;
	f->gathered = 0;
	tell_frame(t, FRAME_DATA, bits, 0);
}

/* ---- who caused what: as begin_request and begin_response of pair.h ---- */

static __noinline int settle_stream(struct thread *t, u64 span)
{
	u32 one = 1;

	if (t->answering == span)
		return 0;
	for (int i = 0; i < OPEN_REQUESTS; i++) {
		if (t->open[i] == span) {
			t->open[i] = 0;
			t->streams &= ~(1 << i);
			t->answering = span;
			return 0;
		}
	}
	bpf_map_update_elem(&answered_streams, &span, &one, BPF_ANY);
	return 0;
}

/* Go: whose stream this is. Apart: the stack is short here. */
static __noinline int name_unit(struct thread *t, u32 stream, u32 moment)
{
	struct feeding *f = &t->feeding;
	u64 unit = t->runtime == RUNTIME_GO ? unit_of_stream(&f->frame.conn, stream, moment, f->key) : 0;

	if (unit)
		f->frame.unit = unit;
	return 0;
}

static __always_inline void meet_stream(struct feeding *f, u32 stream)
{
	f->several |= f->met && f->met != stream;
	f->met = stream;
}

static __always_inline void begin_stream(struct thread *t, u32 stream)
{
	struct feeding *f = &t->feeding;

	if (stream <= f->newest) /* trailers */
		return;
	f->newest = stream;
	if (!f->send) {
		open_stream(t, stream_span(f, stream));
		return;
	}
	f->asked = stream;
	f->frame.cause = only_request(t, &f->frame.flags);
	f->frame.after = f->after;
	name_unit(t, stream, STREAM_ASKED);
	if (f->flags & EXCHANGE_BORN) { /* only the first is the connection's reason */
		f->frame.flags |= EXCHANGE_BORN;
		f->flags &= ~EXCHANGE_BORN;
		f->after = t->received;
	}
}

static __always_inline void answer_stream(struct thread *t, u32 stream)
{
	struct feeding *f = &t->feeding;

	if (f->send) {
		f->frame.after = t->received;
		name_unit(t, stream, f->walk.block & BLOCK_END_STREAM ? STREAM_ENDED : STREAM_ANSWERED);
		settle_stream(t, stream_span(f, stream));
	} else if (!f->undisturbed || stream != f->asked) {
		f->frame.flags |= EXCHANGE_DISTURBED;
	}
}

/* ---- frames ---- */

static __always_inline bool bears_block(const struct walk *w)
{
	u8 type = w->head[3];

	return type == TYPE_HEADERS || type == TYPE_CONTINUATION || type == TYPE_PUSH_PROMISE;
}

/* A piece of the header block in progress: what has been gathered of it, or the next `len` bytes of the message. */
static __noinline int tell_block(struct thread *t, u32 len, u32 ends)
{
	struct feeding *f = &t->feeding;
	struct walk *w = &f->walk;
	u32 bits = 0;

	if (!len)
		len = f->have;
	f->have = 0;
	f->frame.stream = w->stream;
	f->frame.bytes = len;
	if (!(w->block & BLOCK_BEGUN)) {
		bits |= FRAME_BEGINS;
		if (w->block & BLOCK_PROMISE)
			; /* no request of the client's */
		else if (f->request)
			begin_stream(t, w->stream);
		else
			answer_stream(t, w->stream);
	}
	w->block |= BLOCK_BEGUN;
	w->told += len;
	if (!ends && w->told >= BLOCK_MOST)
		w->block |= BLOCK_CUT;
	if (w->block & BLOCK_CUT)
		bits |= FRAME_CUT;
	if (ends || w->block & BLOCK_CUT)
		bits |= FRAME_ENDS | (w->block & BLOCK_END_STREAM ? FRAME_END_STREAM : 0);
	if (!tell_frame(t, FRAME_HEADERS, bits, len))
		w->block |= BLOCK_CUT;
	return 0;
}

/* The next `len` bytes are of a header block, and the frame has `content` of it. Short buffers are gathered: there are
 * programs that send each field from one of its own. */
static __always_inline void walk_block(struct thread *t, u32 len, u32 content)
{
	struct feeding *f = &t->feeding;
	struct walk *w = &f->walk;
	bool ends = len == content && w->head[4] & FLAG_END_HEADERS;

	if (w->block & BLOCK_OPEN && !(w->block & BLOCK_CUT)) {
		tell_data(t, 0);
		if (f->have && f->have + len > FRAME_BLOCK_SMALL)
			tell_block(t, 0, 0);
		if (len > FRAME_BLOCK_SMALL) {
			tell_block(t, len, ends);
		} else {
			u32 have = f->have & (FRAME_BLOCK_SMALL - 1);
			if (len && !copy_bytes(f->block, have, FRAME_BLOCK_SMALL, f->from, len)) {
				lose(LOSS_PAYLOAD_FAULT);
				w->block |= BLOCK_CUT;
			} else {
				f->have += len;
			}
			if (ends || w->block & BLOCK_CUT || f->have == FRAME_BLOCK_SMALL)
				tell_block(t, 0, ends);
		}
	}
	if (ends)
		w->block = 0;
}

static __always_inline void walk_data(struct thread *t, u32 len, bool ends)
{
	struct feeding *f = &t->feeding;
	struct walk *w = &f->walk;

	meet_stream(f, w->stream);
	if (f->data != w->stream)
		tell_data(t, 0);
	f->data = w->stream;
	f->gathered += len;
	if (ends && w->head[4] & FLAG_END_STREAM)
		tell_data(t, FRAME_END_STREAM);
}

/* All of its head is there. */
static __always_inline void begin_frame(struct thread *t)
{
	struct feeding *f = &t->feeding;
	struct walk *w = &f->walk;
	u8 type = w->head[3], flags = w->head[4];
	u32 stream = stream_at(w->head + 5);
	bool bears_padding = type == TYPE_DATA || type == TYPE_HEADERS || type == TYPE_PUSH_PROMISE;

	w->padding = bears_padding && flags & FLAG_PADDED && w->need > FRAME_HEADER ? w->head[FRAME_HEADER] : 0;
	if (w->padding > w->left)
		w->padding = w->left;
	if (type != TYPE_CONTINUATION) {
		if (f->have)
			tell_block(t, 0, 0);
		w->block = 0;
		w->stream = stream;
	}
	if (!stream)
		return;
	if (type == TYPE_RST_STREAM) {
		tell_data(t, 0);
		f->frame.stream = stream;
		f->frame.error = number_at(w->head + FRAME_HEADER);
		if (f->request != f->send) { /* a server's end */
			f->frame.unit = 0;   /* who received this says nothing */
			name_unit(t, stream, STREAM_ENDED);
			settle_stream(t, stream_span(f, stream));
		}
		tell_frame(t, FRAME_RESET, 0, 0);
	} else if (type == TYPE_DATA) {
		if (w->left == w->padding)
			walk_data(t, 0, true);
	} else if (bears_block(w)) {
		if (type != TYPE_CONTINUATION) {
			u8 padded = flags & FLAG_PADDED ? 1 : 0;
			bool promise = type == TYPE_PUSH_PROMISE;
			if (promise)
				w->stream = stream_at(w->head + FRAME_HEADER + padded);
			w->told = 0;
			w->block = BLOCK_OPEN | (promise ? BLOCK_PROMISE : 0) |
				   (!promise && flags & FLAG_END_STREAM ? BLOCK_END_STREAM : 0);
		}
		meet_stream(f, stream);
		if (w->left == w->padding)
			walk_block(t, 0, 0);
	}
}

/* ---- steps ---- */

static __always_inline bool next_buffer(struct feeding *f)
{
	struct user_iovec *v = &f->buffer;

	if (!f->buffers || bpf_probe_read_user(v, sizeof(*v), (void *)f->vector))
		return false;
	f->buffers--;
	f->vector += sizeof(*v);
	f->from = v->base;
	f->here = v->len < f->left ? v->len : f->left;
	return true;
}

static __always_inline void pass(struct feeding *f, u32 len)
{
	f->here -= len;
	f->left -= len;
	if (f->from)
		f->from += len;
}

/* More bytes of the frame's head; false: they cannot be read. */
static __always_inline bool walk_head(struct feeding *f)
{
	struct walk *w = &f->walk;
	u64 have = w->have & 15, len = (w->need - w->have) & 15;

	if (len > f->here)
		len = f->here;
	asm volatile("" : "+r"(have), "+r"(len)); /* the verifier must see their bounds */
	have &= 15;
	len &= 15;
	if (!f->from || bpf_probe_read_user(w->head + have, len, (void *)f->from))
		return false;
	w->have = have + len;
	pass(f, len);
	return true;
}

/* Its header is there: what is due before the content? */
static __always_inline void measure_frame(struct feeding *f)
{
	struct walk *w = &f->walk;
	u32 len = number_at(w->head) >> 8, prefix = prefix_of(w->head[3], w->head[4]);

	if (f->dry) {
		f->odd = !looks_like_frame(w->head);
		f->sure += w->head[3] != TYPE_DATA;
		prefix = 0;
	}
	if (prefix > len) /* malformed (§4.2): an error of the connection, which its ends will end */
		prefix = 0;
	w->left = len - prefix;
	w->need = FRAME_HEADER + prefix;
}

static __always_inline void walk_content(struct thread *t)
{
	struct feeding *f = &t->feeding;
	struct walk *w = &f->walk;
	u32 len = w->left < f->here ? w->left : f->here;
	u32 content = w->left > w->padding ? w->left - w->padding : 0;
	u8 type = w->head[3];

	if (!f->dry && content && type == TYPE_DATA && w->stream) {
		walk_data(t, len < content ? len : content, len >= content);
	} else if (!f->dry && content && bears_block(w)) {
		if (len > content)
			len = content;
		if (len > FRAME_BLOCK_LARGE)
			len = FRAME_BLOCK_LARGE;
		walk_block(t, len, content);
	}
	w->left -= len;
	pass(f, len);
}

/* 1 = stop. */
static __always_inline long walk_on(struct thread *t)
{
	struct feeding *f = &t->feeding;
	struct walk *w = &f->walk;

	if (!f->left)
		return 1;
	if (!f->here) {
		if (next_buffer(f))
			return 0;
		f->odd = 1;
		return 1;
	}
	if (w->have < w->need) {
		bool header = w->need == FRAME_HEADER;
		if (!walk_head(f)) {
			f->odd = 1;
			return 1;
		}
		if (w->have < w->need)
			return 0;
		if (header)
			measure_frame(f);
		if (f->odd)
			return 1;
		if (w->have < w->need)
			return 0;
		if (!f->dry)
			begin_frame(t);
	} else {
		walk_content(t);
	}
	if (!w->left) {
		w->have = 0;
		w->need = FRAME_HEADER;
	}
	return 0;
}

static long walk_step(u32 i, void *thread)
{
	struct thread **t = thread;

	return walk_on(*t);
}

/* There is nothing left of the message, or it cannot be told what is. */
static __always_inline void end_walk(struct thread *t)
{
	struct feeding *f = &t->feeding;

	if (f->dry)
		return;
	tell_data(t, 0);
	if (f->have)
		tell_block(t, 0, 0);
	if (!f->odd && !f->left)
		return;
	f->walk.state = LOST;
	lose(LOSS_FRAME_SYNC);
	f->frame.stream = 0;
	tell_frame(t, FRAME_LOST, 0, 0);
}

/* Without bpf_loop: global functions, so that the verifier sees a step, and all of them, once and not with what may come
 * before and after. */
__noinline int walk_step_apart(void)
{
	struct thread *t = known_thread(false);

	return t ? walk_on(t) : 1;
}

enum { STEPS = 1 << 16, STEPS_OLD = 1 << 10 };
__noinline int walk_all_apart(void)
{
	struct thread *t;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < STEPS_OLD; i++)
		if (walk_step_apart())
			break;
	t = known_thread(false);
	if (t)
		end_walk(t);
	return 0;
}

static __always_inline void walk_all(struct thread *t, bool modern)
{
	if (!modern) {
		walk_all_apart();
		return;
	}
	bpf_loop(STEPS, walk_step, &t, 0);
	end_walk(t);
}

/* ---- messages ---- */

static __always_inline void begin_walk(struct thread *t, const struct message *m)
{
	struct feeding *f = &t->feeding;
	bool one = m->from.base || !m->from.buffers;

	f->vector = m->from.vector;
	f->buffers = one ? 0 : m->from.buffers;
	f->from = m->from.base;
	f->here = one ? m->len : 0;
	f->left = m->len;
	f->odd = f->dry = f->sure = 0;
}

/* Is the message a chain of frames, from its first byte to its last? The last may go on if it is DATA, or, where it is
 * certain that the connection speaks HTTP/2, any: there are programs that read the header of a frame by itself. DATA alone,
 * whose header is mostly zeros, says little. */
static __always_inline bool is_chain(struct thread *t, const struct message *m, bool certain, bool modern)
{
	struct feeding *f = &t->feeding;
	struct walk *w = &f->walk;

	if (!m->from.base && !m->from.buffers)
		return false;
	begin_walk(t, m);
	__builtin_memset(w, 0, sizeof(*w));
	w->need = FRAME_HEADER;
	f->dry = 1;
	walk_all(t, modern);
	if (f->odd || f->left)
		return false;
	if (!w->have)
		return f->sure || certain;
	return f->sure && w->have == FRAME_HEADER && (certain || w->head[3] == TYPE_DATA);
}

/* Some frames were not seen: what they added to the tables of header fields (RFC 7541) is missing. */
static __always_inline bool is_late(const struct http2 *h)
{
	return h->requests.late || h->responses.late || h->requests.state == SEEKING || h->responses.state == SEEKING;
}

/* Apart, as are others below: the stack is short where all of this comes together. */
static __noinline int begin_feeding(struct conn *c, struct thread *t, const struct message *m)
{
	struct feeding *f = &t->feeding;
	struct frame *r = &f->frame;

	begin_walk(t, m);
	__builtin_memset(r, 0, sizeof(*r));
	r->conn = c->k.id;
	r->t = m->begun;
	r->t_end = m->now;
	r->unit = t->unit;
	r->tgid = m->task >> 32;
	r->tid = (u32)m->task;
	f->after = t->received;
	f->gathered = 0;
	f->have = 0;
	f->flags = (c->client ? 0 : EXCHANGE_SERVER) | (c->k.peer ? EXCHANGE_PEER : 0) |
		   (c->k.flags & CONNECTION_TLS ? EXCHANGE_TLS : 0) | (c->epoll ? EXCHANGE_EPOLL : 0) | c->reset |
		   (c->k.flags & CONNECTION_MIDSTREAM || is_late(&c->h2) ? EXCHANGE_MIDSTREAM : 0);
	f->spans = c->h2.spans;
	f->newest = c->h2.newest;
	f->asked = c->h2.asked;
	f->data = f->met = f->several = 0;
	f->send = m->send;
	f->request = m->send == (c->client != 0);
	f->undisturbed = r->tid == c->tid && t->events == c->events + 1;
	if (f->request && c->client && !f->newest && c->k.flags & CONNECTION_BORN) {
		f->flags |= EXCHANGE_BORN;
		f->after = c->k.birth_after;
		if (c->k.birth_unit >> 56 == UNIT_ASYNC) /* what runs when it is there is its own */
			r->unit = c->k.birth_unit;
	}
	f->mute = !c->k.id || !announce(c, m->now);
	return 0;
}

static __always_inline void end_feeding(struct conn *c, struct thread *t, struct walk *w)
{
	struct feeding *f = &t->feeding;

	*w = f->walk;
	/* What else it moves on this connection does not disturb the thread (acknowledgements, windows). */
	if (f->undisturbed || (f->request && f->send && f->met && f->met == f->asked)) {
		c->tid = f->frame.tid;
		c->events = t->events;
	}
	if (f->request) { /* responses may be received by another thread at the same time */
		c->h2.newest = f->newest;
		c->h2.asked = f->asked;
	}
	/* Of the bytes of several streams the thread may handle any next. */
	if (!f->send && f->met)
		t->received = f->several ? 0 : stream_span(f, f->met);
}

/* From the message in hand on. What was taken for an exchange is none. */
static __always_inline void start_http2(struct conn *c, struct thread *t)
{
	if (t)
		settle_request(c, t);
	if (c->phase == REQUEST || c->phase == RESPONSE) {
		count(STAT_ENCRYPTED, 1);
		if (t && t->received == c->x.span_id)
			t->received = 0;
	}
	c->phase = IDLE;
	if (!c->n)
		c->n = 1;
	c->h2.on = 1;
	c->h2.spans = c->n;
}

static __always_inline void follow_from_here(struct walk *w, u32 preface_left)
{
	w->state = FOLLOWING;
	w->need = FRAME_HEADER;
	w->have = preface_left ? FRAME_HEADER : 0;
	w->head[3] = TYPE_PREFACE;
	w->left = preface_left;
}

/* One message, of a connection that speaks HTTP/2 or may do so; false: it does not. */
static __always_inline bool walk_message(struct conn *c, struct thread *t, const struct message *m, bool modern)
{
	struct walk *w = m->send == (c->client != 0) ? &c->h2.requests : &c->h2.responses;

	if (w->state == LOST)
		return true;
	if (!t) { /* the gap in the sequence of its records tells it */
		w->n++;
		w->state = LOST;
		lose(LOSS_FRAME_SYNC);
		return true;
	}
	if (w->state == SEEKING) {
		if (!is_chain(t, m, c->h2.on, modern))
			return c->h2.on;
		if (!c->h2.on)
			start_http2(c, t);
		__builtin_memset(w, 0, sizeof(*w));
		follow_from_here(w, 0);
		w->late = 1;
	}
	c->x.t_req_end = m->now; /* it is in use */
	t->feeding.walk = *w;
	begin_feeding(c, t, m);
	walk_all(t, modern);
	end_feeding(c, t, w);
	return true;
}

/* Apart, as emit_global is. */
__noinline int walk_message_global(struct conn *c, struct thread *t, struct message *m)
{
	return c && m ? walk_message(c, t, m, true) : 0;
}

static __noinline int walk_message_apart(struct conn *c, struct thread *t, struct message *m)
{
	return walk_message(c, t, m, false);
}

/* ---- how it begins ---- */

enum { LOOKED_AT = 64 };
/* Of connections that were there before, some messages are looked at. Where the beginning of a unix socket's was, nobody
 * knows. */
static __always_inline bool may_be_http2(struct conn *c, const struct thread *t)
{
	if (!t || c->head || c->h2.looks >= LOOKED_AT || !(c->k.flags & CONNECTION_MIDSTREAM || c->k.family == AF_UNIX))
		return false;
	c->h2.looks++;
	return true;
}

static __always_inline bool read_first(u8 first[FRAME_HEADER], const struct message *m)
{
	u64 at = m->from.base;
	struct user_iovec v;

	if (m->len < FRAME_HEADER)
		return false;
	if (!at && m->from.buffers && !bpf_probe_read_user(&v, sizeof(v), (void *)m->from.vector) &&
	    v.len >= FRAME_HEADER)
		at = v.base;
	return at && !bpf_probe_read_user(first, FRAME_HEADER, (void *)at);
}

/* ---- how it ends ---- */

static __always_inline void close_http2(struct conn *c, u32 flags, u64 now)
{
	if (!c->h2.on || c->h2.closed)
		return;
	c->h2.closed = 1;
	u32 n = c->h2.responses.n++;
	struct frame_head *r = announce(c, now) ? bpf_ringbuf_reserve(&frames_head, sizeof(*r), 0) : 0;
	if (!r) {
		lose(LOSS_RING_FULL_FRAME);
		return;
	}
	__builtin_memset(r, 0, sizeof(*r));
	r->frame.span_id = span_of(c->k.id, c->h2.spans);
	r->frame.conn = c->k.id;
	r->frame.t = r->frame.t_end = now;
	r->frame.tgid = c->k.tgid;
	r->frame.n = n;
	r->frame.flags = flags | (c->client ? 0 : EXCHANGE_SERVER);
	r->frame.kind = FRAME_CLOSED;
	bpf_ringbuf_submit(r, wakeup(&frames_head, now >> 10));
}
