/* HTTP/1.1 load on loopback from one thread, with exact counts.
 *
 *   load open PORT PATH RATE CONNECTIONS SECONDS     constant rate on kept connections; latency from when it was due
 *   load once PORT PATH IN_FLIGHT SECONDS            one connection per request, as fast as it goes
 *
 * Ends only when every request that was sent is answered, so that sent = answered + errors. Prints one line of JSON:
 * requests, errors, seconds, p50_us, p99_us. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 16384, EVENTS = 64, MAX_LATENCIES = 16 << 20 };

struct connection {
	int fd;
	int have;  /* bytes of the response so far */
	int whole; /* its length, 0 while the head is not complete */
	uint64_t due;
	char buffer[BUFFER];
};

static struct sockaddr_in server = { .sin_family = AF_INET };
static char request[1024];
static int request_size, poll_fd;
static struct connection *connections;
static uint32_t *latencies;
static size_t answered, errors;
static uint64_t begin; /* when the first request was due */

static void give_up(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void dial(int i)
{
	struct connection *c = &connections[i];
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (c->fd < 0 || connect(c->fd, (void *)&server, sizeof(server)))
		give_up("connect");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event))
		give_up("epoll_ctl");
}

static void send_request(int i, uint64_t due)
{
	struct connection *c = &connections[i];

	c->due = due;
	c->have = c->whole = 0;
	if (write(c->fd, request, request_size) != request_size)
		give_up("write");
}

static void finish(const struct connection *c)
{
	if (c->have < 12 || memcmp(c->buffer + 9, "200", 3))
		errors++;
	else if (answered < MAX_LATENCIES)
		latencies[answered++] = (now() - c->due) / 1000;
}

/* Reads what there is; true when the response is whole or the connection ended. */
static bool receive(struct connection *c, bool *ended)
{
	ssize_t n = read(c->fd, c->buffer + c->have, BUFFER - 1 - c->have);

	*ended = n <= 0;
	if (n <= 0)
		return true;
	c->have += n;
	c->buffer[c->have] = 0;
	if (!c->whole) {
		const char *end = strstr(c->buffer, "\r\n\r\n"), *length = strcasestr(c->buffer, "content-length:");

		if (!end || !length)
			return false;
		c->whole = end + 4 - c->buffer + atoi(length + 15);
		if (c->whole >= BUFFER)
			give_up("response larger than the buffer");
	}
	return c->have >= c->whole;
}

static void open_loop(double rate, int count, double seconds)
{
	/* A queue, so that all connections are used in turn. */
	int *idle = calloc(count, sizeof(*idle));
	uint64_t idle_in = 0, idle_out = 0, total = rate * seconds;
	/* What is due while all connections are busy waits for the next free one. */
	uint64_t due_count = 0, sent = 0;

	for (int i = 0; i < count; i++) {
		dial(i);
		idle[idle_in++] = i;
	}
	begin = now();
	while (answered + errors < total) {
		uint64_t t = now();
		struct epoll_event events[EVENTS];
		struct timespec wait = { 0, 0 };

		while (due_count < total && begin + (uint64_t)(due_count * 1e9 / rate) <= t)
			due_count++;
		for (; sent < due_count && idle_out < idle_in; sent++)
			send_request(idle[idle_out++ % count], begin + (uint64_t)(sent * 1e9 / rate));
		if (due_count < total) {
			uint64_t due = begin + (uint64_t)(due_count * 1e9 / rate);

			uint64_t left = due > t ? due - t : 0;

			wait.tv_sec = left / 1000000000;
			wait.tv_nsec = left % 1000000000;
		} else {
			wait.tv_sec = 1;
		}
		int ready = epoll_pwait2(poll_fd, events, EVENTS, &wait, NULL);

		for (int k = 0; k < ready; k++) {
			int i = events[k].data.u32;
			bool ended;

			if (!receive(&connections[i], &ended))
				continue;
			if (ended)
				give_up("the server closed a kept connection");
			finish(&connections[i]);
			idle[idle_in++ % count] = i;
		}
	}
	free(idle);
}

static void once_loop(int in_flight, double seconds)
{
	uint64_t end;
	int open = in_flight;

	begin = now();
	end = begin + seconds * 1e9;
	for (int i = 0; i < in_flight; i++) {
		dial(i);
		send_request(i, now());
	}
	while (open) {
		struct epoll_event events[EVENTS];
		int ready = epoll_wait(poll_fd, events, EVENTS, 1000);

		for (int k = 0; k < ready; k++) {
			int i = events[k].data.u32;
			bool ended;

			if (!receive(&connections[i], &ended))
				continue;
			finish(&connections[i]);
			close(connections[i].fd);
			if (now() >= end) {
				open--;
				continue;
			}
			uint64_t due = now();

			dial(i);
			send_request(i, due);
		}
	}
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	bool kept = argc == 7 && !strcmp(argv[1], "open");
	struct rlimit limit;
	int count;

	if (!kept && !(argc == 6 && !strcmp(argv[1], "once"))) {
		fprintf(stderr,
			"usage: load open PORT PATH RATE CONNECTIONS SECONDS | once PORT PATH IN_FLIGHT SECONDS\n");
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	server.sin_port = htons(atoi(argv[2]));
	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	request_size = snprintf(request, sizeof(request),
				"GET %s HTTP/1.1\r\nHost: bench\r\nUser-Agent: load/1\r\nAccept: */*\r\n%s\r\n",
				argv[3], kept ? "" : "Connection: close\r\n");
	count = atoi(argv[kept ? 5 : 4]);
	connections = calloc(count, sizeof(*connections));
	latencies = malloc(MAX_LATENCIES * sizeof(*latencies));
	poll_fd = epoll_create1(0);
	if (kept)
		open_loop(atof(argv[4]), count, atof(argv[6]));
	else
		once_loop(count, atof(argv[5]));
	double seconds = (now() - begin) / 1e9;

	qsort(latencies, answered, sizeof(*latencies), ascending);
	printf("{\"requests\": %zu, \"errors\": %zu, \"seconds\": %.6f, \"p50_us\": %u, \"p99_us\": %u}\n", answered,
	       errors, seconds, answered ? latencies[answered / 2] : 0, answered ? latencies[answered * 99 / 100] : 0);
	return 0;
}
