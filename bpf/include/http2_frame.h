/* A frame of HTTP/2 (RFC 9113 §4.1) by its header: what it is, and whether these bytes are one at all. */
#pragma once

#include "http2_state.h"

enum frame_type {
	TYPE_DATA = 0,
	TYPE_HEADERS = 1,
	TYPE_PRIORITY = 2,
	TYPE_RST_STREAM = 3,
	TYPE_SETTINGS = 4,
	TYPE_PUSH_PROMISE = 5,
	TYPE_PING = 6,
	TYPE_GOAWAY = 7,
	TYPE_WINDOW_UPDATE = 8,
	TYPE_CONTINUATION = 9,
	TYPE_PREFACE = 255, /* what is left of it is passed over as a frame would be */
};
enum frame_flags {
	FLAG_END_STREAM = 1 << 0,
	FLAG_ACK = 1 << 0,
	FLAG_END_HEADERS = 1 << 2,
	FLAG_PADDED = 1 << 3,
	FLAG_PRIORITY = 1 << 5,
};
enum { PREFACE = 24, BLOCK_MOST = 16 * FRAME_BLOCK_LARGE };

static __always_inline u32 number_at(const u8 *b)
{
	return (u32)b[0] << 24 | (u32)b[1] << 16 | (u32)b[2] << 8 | b[3];
}

static __always_inline u32 stream_at(const u8 *b)
{
	return number_at(b) & 0x7fffffff; /* the first bit is reserved */
}

/* "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" (§3.4) as three words, each with the byte that comes first in its lowest place. */
static __always_inline bool is_preface(const u8 *b)
{
	const u64 *w = (const u64 *)b;

	return w[0] == 0x5448202a20495250ull && w[1] == 0x0a0d302e322f5054ull && w[2] == 0x0a0d0a0d4d530a0dull;
}

/* Is it, as far as it goes? */
static __always_inline bool begins_preface(const u8 *b, u32 len)
{
	u64 first = *(const u64 *)b ^ 0x5448202a20495250ull;

	return len >= 8 ? !first : len && !(first << (64 - 8 * len));
}

/* SETTINGS that a server may begin with: no more of them than are registered. */
enum { SETTING = 6, SETTINGS_MOST = 16 };
static __always_inline bool is_settings(const u8 *b)
{
	return !b[0] && !b[1] && b[2] <= SETTING * SETTINGS_MOST && !(b[2] % SETTING) && b[3] == TYPE_SETTINGS &&
	       !b[4] && !number_at(b + 5);
}

/* Is this, of a connection whose beginning was not seen, the header of a frame? Says no to what is allowed, but seldom. */
static __always_inline bool looks_like_frame(const u8 *b)
{
	u32 len = number_at(b) >> 8, stream = number_at(b + 5);
	u8 flags = b[4];

	switch (b[3]) {
	case TYPE_DATA:
		return stream && stream >> 31 == 0 && (len || flags & FLAG_END_STREAM) &&
		       !(flags & ~(FLAG_END_STREAM | FLAG_PADDED));
	case TYPE_HEADERS:
		return stream & 1 && stream >> 31 == 0 && len && len <= BLOCK_MOST &&
		       !(flags & ~(FLAG_END_STREAM | FLAG_END_HEADERS | FLAG_PADDED | FLAG_PRIORITY));
	case TYPE_PRIORITY:
		return stream && stream >> 31 == 0 && len == 5 && !flags;
	case TYPE_RST_STREAM:
		return stream && stream >> 31 == 0 && len == 4 && !flags;
	case TYPE_SETTINGS:
		return !stream && !(len % SETTING) && len <= SETTING * SETTINGS_MOST &&
		       (flags == FLAG_ACK ? !len : !flags && len);
	case TYPE_PING:
		return !stream && len == 8 && flags <= FLAG_ACK;
	case TYPE_GOAWAY:
		return !stream && len >= 8 && len <= FRAME_BLOCK_LARGE && !flags;
	case TYPE_WINDOW_UPDATE:
		return stream >> 31 == 0 && len == 4 && !flags;
	case TYPE_CONTINUATION:
		return stream & 1 && stream >> 31 == 0 && len <= BLOCK_MOST && !(flags & ~FLAG_END_HEADERS);
	default:
		return false;
	}
}

/* How many bytes of a frame come before its content. */
static __always_inline u32 prefix_of(u8 type, u8 flags)
{
	u32 padded = flags & FLAG_PADDED ? 1 : 0;

	switch (type) {
	case TYPE_DATA:
		return padded;
	case TYPE_HEADERS:
		return padded + (flags & FLAG_PRIORITY ? 5 : 0);
	case TYPE_PUSH_PROMISE:
		return padded + 4;
	case TYPE_RST_STREAM:
		return 4;
	default:
		return 0;
	}
}
