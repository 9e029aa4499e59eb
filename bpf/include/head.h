/* The head of an HTTP/1 request (RFC 9112 §2.1), line by line: of one that is about to be sent, and of one that came.
 *
 * Whoever looks at it must be certain, or say that he is not: a line folded (§5.2), a line feed alone (§2.2), two lengths
 * or a length and a transfer coding (§6.3) are read by some one way and by some another. Loops are plain ones, as 5.10 has
 * no others: what they find goes by values of which the verifier knows nothing, so that one iteration is like the next. */
#pragma once

#include "pair.h"
#include "sock_msg.h"
#include "trace.h"

enum line {
	LINE_AT = (1 << 12) - 1, /* where the line begins: with LENGTH and PARENT */
	LINE_LENGTH = 1 << 12,   /* Content-Length. Added up: more than one makes at least twice that */
	END_AT = 1 << 14,        /* where in a block the empty line begins, 7 bits: with END */
	LINE_CONTEXT = 1 << 24,  /* a context that some tracer has put there, or it may be one */
	LINE_BAD = 1 << 25,
	LINE_OPEN = 1 << 26, /* what follows the head has no length that it tells */
	LINE_END = 1 << 27,
	LINE_PARENT = LINE_LENGTH, /* of what came: a traceparent as we write them */
};

#define LOWER 0x2020202020202020ull
#define WORD(S)                                                                                                        \
	((u64)(S)[0] | (u64)(S)[1] << 8 | (u64)(S)[2] << 16 | (u64)(S)[3] << 24 | (u64)(S)[4] << 32 |                  \
	 (u64)(S)[5] << 40 | (u64)(S)[6] << 48 | (u64)(S)[7] << 56)
#define BYTES(B) (0x0101010101010101ull * (B))

static __always_inline u64 word_at(const u8 *b)
{
	u64 word;

	__builtin_memcpy(&word, b, sizeof(word));
	return word;
}

static __always_inline bool has_line_feed(u64 bytes)
{
	bytes ^= BYTES('\n'); /* a zero byte for each */
	return (bytes - BYTES(1)) & ~bytes & BYTES(0x80);
}

/* The place behind the first one of those that has_line_feed has found, from 1. */
static __always_inline u32 behind_line_feed(u64 bytes)
{
	bytes ^= BYTES('\n');
	bytes = (bytes - BYTES(1)) & ~bytes & BYTES(0x80);
	return (((bytes & -bytes) - 1) & BYTES(1)) * BYTES(1) >> 56;
}

/* ---- of a message that is about to be sent ---- */

/* The line that begins at `at`: a global function, so that it is verified once. */
__noinline int line_to_send(struct sk_msg_md *m, u32 at)
{
	const void *end = m->data_end;
	const u8 *b = m->data + (at & LINE_AT);

	if ((void *)(b + 2) > end)
		return LINE_BAD;
	if (b[0] == '\r' && b[1] == '\n')
		return LINE_END;
	if (b[0] <= ' ' || (void *)(b + 4) > end)
		return LINE_BAD;
	u32 name = b[0] | b[1] << 8 | b[2] << 16 | (u32)b[3] << 24;
	if (may_be_context(name))
		return LINE_CONTEXT;
	if ((void *)(b + 8) > end)
		return 0;
	u64 word = word_at(b) | LOWER;
	if (word == (WORD("upgrade:") | LOWER))
		return LINE_OPEN;
	if (word == WORD("transfer"))
		return LINE_OPEN;
	if (word != (WORD("content-") | LOWER) || (void *)(b + 16) > end)
		return 0;
	word = word_at(b + 7) | LOWER;
	return word == (WORD("-length:") | LOWER) ? LINE_LENGTH | (at & LINE_AT) : 0;
}

enum { DIGITS = 9 };
/* The value of the Content-Length line at `at`; -1: not a plain number of at most DIGITS digits. */
__noinline int length_to_send(struct sk_msg_md *m, u32 at)
{
	const void *end = m->data_end;
	const u8 *b = m->data + (at & LINE_AT) + 15;
	u32 length = 0;

	if ((void *)(b + 1) > end)
		return -1;
	if (*b == ' ')
		b++;
	for (u32 i = 0; i <= DIGITS; i++, b++) {
		if ((void *)(b + 1) > end)
			return -1;
		if (*b == '\r')
			return i ? (int)length : -1;
		if (*b < '0' || *b > '9')
			return -1;
		length = length * 10 + (*b - '0');
	}
	return -1;
}

/* Is what ends before `at` a request line: METHOD SP target SP HTTP/1.x CRLF? */
__noinline int is_request_line(struct sk_msg_md *m, u32 at)
{
	const void *end = m->data_end;
	const u8 *b = m->data, *v = m->data + ((at - 11) & LINE_AT);
	bool capitals = true;
	u32 i;

	if (at < 16 || at > LINE_AT || (void *)(b + 8) > end || (void *)(v + 11) > end)
		return 0;
	for (i = 0; i < 8 && b[i] != ' '; i++)
		capitals &= b[i] >= 'A' && b[i] <= 'Z';
	/* "GET / HTTP/1.1\r\n": what is behind CONNECT is another's, and PRI begins HTTP/2. */
	if (!capitals || i < 3 || (b[0] == 'C' && b[1] == 'O' && b[2] == 'N') || (b[0] == 'P' && b[1] == 'R'))
		return 0;
	return v[0] == ' ' && v[1] == 'H' && v[2] == 'T' && v[3] == 'T' && v[4] == 'P' && v[5] == '/' && v[6] == '1' &&
	       v[7] == '.' && (v[8] == '0' || v[8] == '1') && v[9] == '\r' && v[10] == '\n';
}

/* What was found in a head. It lies in a map: of what is loaded from there the verifier knows nothing, if it is indeed
 * loaded (volatile). */
struct head {
	u32 line;    /* length of the request line */
	u32 seen;    /* of enum line */
	u32 lengths; /* LINE_LENGTH and LINE_AT, of all lengths together */
	u32 length;  /* of the head, with its empty line */
	u32 body;    /* what follows it; 0 with LINE_OPEN */
};

/* Sets the length of the first line; false: there is none. */
static __always_inline bool find_line(struct sk_msg_md *m, volatile struct head *h)
{
	const void *end = m->data_end;

	for (u32 i = 0; i < HEAD_MOST; i += 8) {
		const u8 *b = m->data + i;
		if ((void *)(b + 8) > end) /* what follows a request line is longer */
			return false;
		u64 word = word_at(b);
		if (!has_line_feed(word))
			continue;
		h->line = i + behind_line_feed(word);
		return true;
	}
	return false;
}

enum { BLOCK = 64 };
/* The lines that begin behind the line feeds of the block at `at`. */
__noinline int lines_to_send(struct sk_msg_md *m, u32 at)
{
	const void *end = m->data_end;
	const u8 *b = m->data + (at & (HEAD_MOST - BLOCK));
	const u8 *before_it = m->data + ((at - 1) & LINE_AT);
	u32 last = 0, found = 0;

	if (at && (void *)(before_it + 1) <= end)
		last = *before_it;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < BLOCK; i += 8, b += 8) {
		if ((void *)(b + 8) <= end && !has_line_feed(word_at(b))) {
			last = b[7];
			continue;
		}
#pragma clang loop unroll(disable)
		for (u32 k = 0; k < 8; k++) {
			if ((void *)(b + k + 1) > end)
				return found;
			u32 before = last;
			last = b[k];
			if (last != '\n')
				continue;
			if (before != '\r')
				return LINE_BAD;
			u32 line = line_to_send(m, at + i + k + 1);
			if (found & line & LINE_LENGTH)
				return LINE_BAD;
			found |= line;
			if (line & LINE_END)
				return found | (i + k + 1) * END_AT;
		}
	}
	return found;
}

/* Looks at all lines; false: the head does not end here. Each iteration goes on in one way only: 5.10 and 6.1 would not
 * remember where others join. */
static __always_inline bool find_end(struct sk_msg_md *m, volatile struct head *h)
{
	h->seen = h->lengths = 0;
	for (u32 i = 0; i < HEAD_MOST; i += BLOCK) {
		const void *end = m->data_end;
		const u8 *b = m->data + i;
		if ((void *)(b + 1) > end)
			return false;
		u32 found = lines_to_send(m, i);
		h->seen |= found;
		h->lengths += found & (LINE_LENGTH | LINE_AT);
		if (found & LINE_END) {
			h->length = i + found / END_AT % (2 * BLOCK) + 2;
			return true;
		}
	}
	return false;
}

/* Is the message's beginning the whole head of a request, for certain? */
static __always_inline bool is_head(struct sk_msg_md *m, struct head *h)
{
	if (!find_line(m, h) || !is_request_line(m, h->line) || !find_end(m, h))
		return false;
	u32 lengths = h->lengths;
	if (h->seen & LINE_BAD || lengths >= 2 * LINE_LENGTH || (lengths && h->seen & LINE_OPEN))
		return false;
	h->body = lengths ? length_to_send(m, lengths & LINE_AT) : 0;
	return (s32)h->body >= 0;
}

/* ---- of a message that came ---- */

/* With a bit that is never set: the verifier is not to know how many there may be. */
enum { PARENT_LEN = HEADER_LEN - 2, PARENTS = LINE_AT | LINE_PARENT | LINE_PARENT << 1 };
static __always_inline u32 nibble(u8 c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

/* The trace id behind `b`; false: these are no digits. */
static __always_inline bool read_trace(const u8 *b, u64 trace[2])
{
	u8 *to = (u8 *)trace;

	for (u32 i = 0; i < 16; i++) {
		u32 high = nibble(b[2 * i]), low = nibble(b[2 * i + 1]);
		if ((high | low) > 15)
			return false;
		to[i] = high << 4 | low;
	}
	return trace[0] | trace[1];
}

/* The line that begins at `at`, of `len` bytes of a request. */
__noinline int line_received(u64 sock, u32 at, u32 len)
{
	struct payload *p = bpf_map_lookup_elem(&payloads_by_sock, &sock);
	u32 name;

	if (!p || at + 2 > len)
		return LINE_BAD;
	const u8 *b = p->request + (at & (REQUEST_LARGE - 1));
	if (b[0] == '\n' || (b[0] == '\r' && b[1] == '\n'))
		return LINE_END;
	__builtin_memcpy(&name, b, sizeof(name));
	if (!may_be_context(name))
		return 0;
	if ((word_at(b) | LOWER) == (WORD("tracesta") | LOWER)) /* it says nothing of the trace */
		return 0;
	bool parent = at + PARENT_LEN < len && (word_at(b) | LOWER) == (WORD("tracepar") | LOWER) &&
		      (word_at(b + 8) | LOWER) == (WORD("ent: 00-") | LOWER) && b[SPAN_AT - 1] == '-' &&
		      b[FLAGS_AT - 1] == '-' && b[FLAGS_AT] == '0' && b[FLAGS_AT + 1] == '1' && b[FLAGS_AT + 2] == '\r';
	return LINE_CONTEXT | (parent ? LINE_PARENT | (at & (REQUEST_LARGE - 1)) : LINE_BAD);
}

/* The lines that begin behind the line feeds among the 8 bytes at `at` of the request that a connection receives. */
__noinline int lines_received(u64 sock, u32 at, u32 len)
{
	struct payload *p = bpf_map_lookup_elem(&payloads_by_sock, &sock);
	u32 found = 0;

	if (!p)
		return LINE_BAD;
	at &= REQUEST_LARGE - 8;
	for (u32 k = 0; k < 8; k++) {
		if (p->request[at + k] != '\n')
			continue;
		found |= line_received(sock, at + k + 1, len);
		if (found & LINE_END)
			break;
	}
	return found;
}

/* What the head of a request says: LINE_PARENT with its place, CONTEXT, BAD where not all of it is there. */
static __always_inline u32 look_at_request(const struct payload *p, u64 sock, u32 len)
{
	u32 seen, parents;

	if (!len || len > REQUEST_LARGE)
		return LINE_BAD;
	if (!begins_request(p->request, len))
		return p->request[0] == 1 ? LINE_BAD : 0; /* FastCGI's parameters may have one */
	seen = lines_received(sock, 0, len);
	parents = seen & PARENTS;
	for (u32 i = 8; i < REQUEST_LARGE && !(seen & LINE_END); i += 8) {
		if (!has_line_feed(word_at(p->request + i)))
			continue;
		u32 found = lines_received(sock, i, len);
		seen |= found;
		parents += found & PARENTS;
	}
	if (!(seen & LINE_END) || parents >= 2 * LINE_PARENT)
		return LINE_BAD;
	return (seen & ~PARENTS) | parents;
}
