/* CPython's contexts are born: at the return of each function that makes one, in whose name and by whom is noted. */
#include "unit.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline int born(u64 context)
{
	struct unit_at at = {};

	look_at_self(&at);
	struct runtime *r = find_runtime(at.tgid);
	if (!r || r->kind != RUNTIME_PYTHON || !context)
		return 0;
	struct context_key key = { context, at.tgid, r->python.epoch };
	u64 unit = new_context_name();
	/* Of one that is made by way of two of these functions, the later return holds. */
	if (bpf_map_update_elem(&contexts, &key, &unit, BPF_ANY)) {
		bpf_map_delete_elem(&contexts, &key); /* the one that was there before has died */
		lose(LOSS_NO_ANCESTRY);
		return 0;
	}
	note_lineage(at.tgid, unit, python_unit(&r->python, &at));
	return 0;
}

/* One set of programs for each kind of state, by name only: this needs none. */
SEC("uretprobe")
int python_born_storage(struct pt_regs *ctx)
{
	return born(RETURNED(ctx));
}

SEC("uretprobe")
int python_born_hash(struct pt_regs *ctx)
{
	return born(RETURNED(ctx));
}
