/* What user space is told of processes: that one has become another program, has ended, or waits for connections. */
#pragma once

#include "emit.h"

/* When user space was last woken for one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} processes_told SEC(".maps");

enum { TOLD_EACH_NS = 50000000 };
/* User space wants to know a new program's runtime before its first request: it looks when exec has returned, and when the
 * program listens, as its runtime is there by then. But it is not to be woken by each of many. */
static __always_inline u64 wakeup_for(u32 kind, u64 now)
{
	u32 zero = 0;
	u64 *told = kind == PROCESS_EXIT ? 0 : bpf_map_lookup_elem(&processes_told, &zero);

	if (!told || (kind == PROCESS_EXEC && now - *told < TOLD_EACH_NS))
		return wakeup(&processes, now >> 10);
	*told = now;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void tell_process(u32 kind)
{
	struct process_event e = { .t = bpf_ktime_get_ns(), .kind = kind };

	e.tgid = bpf_get_current_pid_tgid() >> 32;
	read_process_name(e.comm);
	if (bpf_ringbuf_output(&processes, &e, sizeof(e), wakeup_for(kind, e.t)))
		lose(LOSS_RING_FULL_PROCESS);
}
