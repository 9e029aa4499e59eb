/* One thread that does one thing without pause and says how long each chunk of it took.
 *
 *   exchange http CONNECTIONS    HTTP/1.1 over loopback TCP, both ends here, no context switch: 4 syscalls an exchange
 *   exchange getppid|read|write  a syscall that is no socket I/O: getppid(2); lseek+read of 1 KB; 1 byte to /dev/null
 *   exchange http CONNECTIONS N  N exchanges (for counting what they leave in the rings), then ends
 *   exchange http CONNECTIONS 0 USED  after a few exchanges on each, only so many of them are used; the others stay open
 *
 * Writes pairs of doubles to stdout: CLOCK_MONOTONIC ns at the chunk's begin, ns per round. Runs on CPU 0. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST = 150, RESPONSE = 400, MESSAGE = 4096, CHUNK = 50, CHUNK_PLAIN = 1000, EACH = 4 };

struct pair {
	int client, server;
};
static struct pair *pairs;
static int connections, used, at, file, null;
static char request[MESSAGE], response[MESSAGE], scratch[MESSAGE];

static void check(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

/* A head padded by one header to exactly `size` bytes, body included. */
static void message(char *out, int size, const char *head, const char *tail)
{
	int n = sprintf(out, "%sX-Pad: ", head);

	memset(out + n, 'p', size - n - strlen(tail));
	memcpy(out + size - strlen(tail), tail, strlen(tail));
}

static void connect_all(void)
{
	struct rlimit limit;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(to);
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	check(!bind(listener, (void *)&to, sizeof(to)) && !listen(listener, 128), "listen");
	getsockname(listener, (void *)&to, &size);
	pairs = calloc(connections, sizeof(*pairs));
	for (int i = 0; i < connections; i++) {
		pairs[i].client = socket(AF_INET, SOCK_STREAM, 0);
		check(!connect(pairs[i].client, (void *)&to, sizeof(to)), "connect");
		pairs[i].server = accept(listener, NULL, NULL);
		check(pairs[i].server >= 0, "accept");
		setsockopt(pairs[i].client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(pairs[i].server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	message(request, REQUEST, "GET /api/v1/items/17 HTTP/1.1\r\nHost: shop.example.com\r\n", "\r\n\r\n");
	message(response, RESPONSE, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n", "\r\n\r\nbody");
}

static void do_http(void)
{
	struct pair p = pairs[at];

	at = at + 1 >= used ? 0 : at + 1;
	check(write(p.client, request, REQUEST) == REQUEST, "write");
	check(read(p.server, scratch, MESSAGE) == REQUEST, "read");
	check(write(p.server, response, RESPONSE) == RESPONSE, "write");
	check(read(p.client, scratch, MESSAGE) == RESPONSE, "read");
}

static void do_getppid(void)
{
	syscall(SYS_getppid);
}

static void do_read(void)
{
	lseek(file, 0, SEEK_SET);
	check(read(file, scratch, 1024) == 1024, "read");
}

static void do_write(void)
{
	check(write(null, scratch, 1) == 1, "write");
}

static void open_files(void)
{
	char name[] = "/tmp/exchange.XXXXXX";

	file = mkstemp(name);
	unlink(name);
	check(write(file, scratch, 1024) == 1024, "write");
	null = open("/dev/null", O_WRONLY);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	bool http = !strcmp(mode, "http");
	void (*round)(void) = http                     ? do_http
			      : !strcmp(mode, "read")  ? do_read
			      : !strcmp(mode, "write") ? do_write
						       : do_getppid;
	int chunk = http ? CHUNK : CHUNK_PLAIN;
	long rounds = argc > 3 ? atol(argv[3]) : 0;
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	open_files();
	connections = argc > 2 ? atoi(argv[2]) : 1;
	used = connections;
	if (http)
		connect_all();
	if (rounds) {
		while (rounds--)
			round();
		return 0;
	}
	if (argc > 4) {
		for (int i = 0; i < EACH * connections; i++)
			round();
		used = atoi(argv[4]);
	}
	for (long n = 1;; n++) {
		double out[2] = { now() };

		for (int i = 0; i < chunk; i++)
			round();
		out[1] = (now() - out[0]) / chunk;
		if (!fwrite(out, sizeof(out), 1, stdout))
			return 0;
		if (n % 64 == 0)
			fflush(stdout);
	}
}
