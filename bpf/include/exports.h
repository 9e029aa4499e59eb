/* What processes export as telemetry, byte by byte: on connections to ports at which user space knows a receiver of OTLP,
 * whatever a client writes is copied out in chunks, so that the spans which an SDK makes are known. All other connections
 * pay a comparison. Plain text only, and only where sock_*_length serve. */
#pragma once

#include "emit.h"

TABLE(export_ports, u32, u32, 1024);
/* Connections to such ports that carry something else (connection.id): user space has looked at their beginning. */
RECENT(other_exports, u64, u8, 1024);
RING(exports, 2 << 20);

enum { NOT_EXPORTING = 1, EXPORTING = 2 };
/* Looked up while it is one; else at the first request, and now and then again: that a port is one may be learned late. */
static __always_inline bool exporting(struct conn *c)
{
	if (!c->client || c->k.protocol != IPPROTO_TCP)
		return false;
	if (c->exports == EXPORTING || (c->phase != REQUEST && !(c->n & (c->n - 1)))) {
		u32 port = c->k.remote_port;
		u64 id = c->k.id;
		bool is = bpf_map_lookup_elem(&export_ports, &port) && !bpf_map_lookup_elem(&other_exports, &id);
		c->exports = is ? EXPORTING : NOT_EXPORTING;
	}
	return c->exports == EXPORTING;
}

/* One chunk, for bpf_loop; 1 = stop. Where it has got to lies in the thread: see `struct cursor`. */
static long export_one(u32 i, void *thread)
{
	struct thread **t = thread;
	struct exporting *e = &(*t)->exporting;
	u64 from = e->from;
	u32 len = e->left;

	if (!len)
		return 1;
	if (e->vector) {
		struct user_iovec v;
		if (bpf_probe_read_user(&v, sizeof(v), (void *)e->vector))
			return 1;
		if (from >= v.len) { /* an empty buffer */
			e->vector += sizeof(v);
			e->from = 0;
			return 0;
		}
		if (len > v.len - from)
			len = v.len - from;
		if (len <= EXPORT_CHUNK && len == v.len - from) {
			e->vector += sizeof(v);
			e->from = 0;
		} else {
			e->from += EXPORT_CHUNK;
		}
		from += v.base;
	} else {
		e->from += EXPORT_CHUNK;
	}
	if (len > EXPORT_CHUNK)
		len = EXPORT_CHUNK;
	struct export_chunk *x = bpf_ringbuf_reserve(&exports, sizeof(*x), 0);
	if (!x) {
		lose(LOSS_RING_FULL_EXPORT);
		return 1;
	}
	x->conn = e->conn;
	x->t = e->t;
	x->tgid = e->tgid;
	x->seq = e->seq;
	x->len = len;
	u64 size = len;
	asm volatile("" : "+r"(size)); /* the compiler knows its bound already; the verifier must see it */
	if (size > EXPORT_CHUNK || bpf_probe_read_user(x->data, size, (void *)from)) {
		lose(LOSS_PAYLOAD_FAULT);
		bpf_ringbuf_discard(x, BPF_RB_NO_WAKEUP);
		return 1;
	}
	bpf_ringbuf_submit(x, wakeup(&exports, e->seq >> 12));
	e->seq += len;
	e->left -= len;
	return 0;
}

enum { EXPORT_CHUNKS = 256 };
/* Of a longer message, or one whose bytes cannot be read, the rest is missing: user space sees that by its numbers. */
__noinline int export_message(struct conn *c, struct thread *t, struct message *m)
{
	if (!c || !t || !m)
		return 0;
	struct exporting *e = &t->exporting;
	e->vector = m->from.base ? 0 : m->from.vector;
	e->from = m->from.base;
	e->left = m->len;
	e->seq = m->seq;
	e->conn = c->k.id;
	e->t = m->now;
	e->tgid = m->task >> 32;
	if (m->from.base || m->from.buffers)
		bpf_loop(EXPORT_CHUNKS, export_one, &t, 0);
	return 0;
}
