/* One side of a conversation by io_uring alone: `uring PORT` connects, asks and reads the answer; `uring PORT serve`
 * answers what is asked on the connection that it accepts. Raw system calls (io_uring_setup(2)), so that it needs no
 * liburing. The socket calls that are no I/O (socket, connect, accept) are the usual ones. */
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES = 4, TIMES = 6 };
static const char ask[] = "what is the answer?!", answer[] = "forty-two";

struct ring {
	int fd;
	char *rings;
	struct io_uring_sqe *entries;
	struct io_uring_params p;
};

static void check(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

static void ring_open(struct ring *r)
{
	memset(r, 0, sizeof(*r));
	r->fd = syscall(SYS_io_uring_setup, ENTRIES, &r->p);
	check(r->fd >= 0 && r->p.features & IORING_FEAT_SINGLE_MMAP, "io_uring_setup");
	size_t size = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	size_t other = r->p.sq_off.array + r->p.sq_entries * sizeof(uint32_t);
	r->rings = mmap(0, size > other ? size : other, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->entries = mmap(0, r->p.sq_entries * sizeof(*r->entries), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
			  IORING_OFF_SQES);
	check(r->rings != MAP_FAILED && r->entries != MAP_FAILED, "mmap");
}

/* Submits one operation and waits for its result. */
static int ring_do(struct ring *r, int operation, int fd, const void *buffer, unsigned length)
{
	uint32_t *tail = (void *)(r->rings + r->p.sq_off.tail), *head = (void *)(r->rings + r->p.cq_off.head);
	uint32_t slot = *tail & (ENTRIES - 1);
	struct io_uring_cqe *done = (void *)(r->rings + r->p.cq_off.cqes);
	struct io_uring_sqe *entry = &r->entries[slot];

	memset(entry, 0, sizeof(*entry));
	entry->opcode = operation;
	entry->fd = fd;
	entry->addr = (uintptr_t)buffer;
	entry->len = length;
	((uint32_t *)(r->rings + r->p.sq_off.array))[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	check(syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) == 1, "io_uring_enter");
	int result = done[*head & (r->p.cq_entries - 1)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return result;
}

static void receive(struct ring *r, int fd, const char *expected)
{
	char got[64];
	int want = strlen(expected), have = 0, n;

	for (; have < want; have += n) {
		n = ring_do(r, IORING_OP_RECV, fd, got + have, sizeof(got) - have);
		check(n > 0, "recv");
	}
	check(have == want && !memcmp(got, expected, want), "what was received");
}

static void transmit(struct ring *r, int fd, const char *text)
{
	check(ring_do(r, IORING_OP_SEND, fd, text, strlen(text)) == (int)strlen(text), "send");
}

int main(int count, char **arguments)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int serves = count > 2, fd = serves ? 0 : socket(AF_INET, SOCK_STREAM, 0);
	struct ring r;

	ring_open(&r);
	address.sin_port = htons(atoi(arguments[1]));
	if (serves) /* the listener is standard input */
		fd = accept(0, 0, 0);
	else
		check(!connect(fd, (void *)&address, sizeof(address)), "connect");
	check(fd >= 0, "accept");
	for (int i = 0; i < TIMES; i++) {
		if (serves) {
			receive(&r, fd, ask);
			transmit(&r, fd, answer);
		} else {
			transmit(&r, fd, ask);
			receive(&r, fd, answer);
		}
	}
	return 0;
}
