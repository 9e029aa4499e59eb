/* What is remembered of HTTP/2: where each direction of a connection has got to, and the message in hand (see http2.h). */
#pragma once

#include "kernel.h"
#include "records.h"

enum walk_state {
	SEEKING = 0,   /* where frames begin is not known yet */
	FOLLOWING = 1, /* it is */
	LOST = 2,      /* it was, and is not any more */
};

enum block_state {
	BLOCK_OPEN = 1 << 0,       /* a header block is in progress: END_HEADERS has not been seen */
	BLOCK_BEGUN = 1 << 1,      /* a piece of it was told */
	BLOCK_CUT = 1 << 2,        /* nothing more of it is told */
	BLOCK_END_STREAM = 1 << 3, /* it is the last of its stream in this direction */
	BLOCK_PROMISE = 1 << 4,    /* of PUSH_PROMISE */
};

enum { FRAME_HEADER = 9, FRAME_PREFIX = 6 };
/* One direction of a connection. */
struct walk {
	u8 head[FRAME_HEADER + FRAME_PREFIX + 1]; /* the frame's header, and what stands before its content */
	u8 have;                                  /* bytes of head that are there */
	u8 need;                                  /* that are due */
	u8 state;                                 /* enum walk_state */
	u8 late;                                  /* not followed from its beginning */
	u8 padding;                               /* behind the content */
	u8 block;                                 /* enum block_state */
	u32 left;                                 /* of the frame behind head, padding included */
	u32 told;                                 /* of the header block */
	u32 stream;                               /* that the frame is about */
	u32 n;                                    /* records so far */
};

struct http2 {
	struct walk requests;
	struct walk responses;
	u32 spans;  /* ordinals that exchanges had before */
	u32 newest; /* stream that the client opened last: their numbers ascend */
	u32 asked;  /* client: stream of the request that was sent last */
	u8 on;      /* the connection speaks HTTP/2, for good */
	u8 closed;  /* its end was told */
	u8 looks;   /* messages at which it was looked whether it does */
	u8 tries;   /* messages at which its other end was looked for */
};

/* The message in hand, and where a walk over its bytes has got to: in the thread, as `struct cursor` is. */
struct feeding {
	struct frame frame;                                  /* the record that is sent next */
	u8 block[FRAME_BLOCK_SMALL + FRAME_BLOCK_SMALL / 2]; /* and goes with it; with room for copy_bytes */
	struct walk walk;
	struct user_iovec buffer; /* of the vector, read last */
	u64 vector;               /* next struct iovec * */
	u64 from;                 /* next byte: its address; 0: cannot be had */
	u64 after;                /* of the next request */
	u64 gathered;             /* bytes of DATA that are not told yet */
	u64 key[3];               /* what is looked up: the stack is too short for it */
	u32 have;                 /* bytes in block */
	u32 buffers;              /* of the vector that are left */
	u32 here;                 /* bytes of the buffer */
	u32 left;                 /* bytes of the message */
	u32 flags;                /* of all records of the message */
	u32 spans;                /* as in struct http2 */
	u32 newest;
	u32 asked;
	u32 data;   /* stream of the gathered bytes */
	u32 met;    /* stream of which there were bytes last */
	u8 several; /* of others, too */
	u8 request; /* direction */
	u8 send;
	u8 mute;        /* records cannot be named */
	u8 dry;         /* nothing is told: are these frames at all? */
	u8 odd;         /* they are not */
	u8 sure;        /* frames that little else looks like */
	u8 undisturbed; /* a response: the thread moved nothing since it sent the request `asked` */
};
