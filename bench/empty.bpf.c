/* The floor: empty programs on the hooks of requests.bpf.c, to tell what the hooks alone cost from what we do in them. */
#include "kernel.h"

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tp_btf/sock_send_length")
int on_send_length(void *ctx)
{
	return 0;
}

SEC("tp_btf/sock_recv_length")
int on_recv_length(void *ctx)
{
	return 0;
}
