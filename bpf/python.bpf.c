/* CPython's contexts and greenlets are born: at the return of each function that makes one its name and maker are noted. */
#include "unit.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline int born(u64 object, u32 kind)
{
	struct unit_at at = {};

	look_at_self(&at);
	count_hit(at.tgid);
	const struct runtime *r = find_runtime(at.tgid);
	if (!r || r->kind != RUNTIME_PYTHON || !object)
		return 0;
	struct object_key key = { object, at.tgid, r->python.epoch };
	u64 unit = new_unit(kind);
	/* Of one that is made by way of two of these functions, the later return holds. */
	if (bpf_map_update_elem(&python_objects, &key, &unit, BPF_ANY)) {
		bpf_map_delete_elem(&python_objects, &key); /* the one that was there before has died */
		lose(LOSS_NO_ANCESTRY);
		return 0;
	}
	note_lineage(at.tgid, unit, python_unit(&r->python, &at));
	return 0;
}

/* One set of programs for each kind of state, by name only: these need none. */
SEC("uretprobe")
int python_born_storage(struct pt_regs *ctx)
{
	return born(RETURNED(ctx), UNIT_CONTEXT);
}

SEC("uretprobe")
int python_born_hash(struct pt_regs *ctx)
{
	return born(RETURNED(ctx), UNIT_CONTEXT);
}

SEC("uretprobe")
int greenlet_born_storage(struct pt_regs *ctx)
{
	return born(RETURNED(ctx), UNIT_GREENLET);
}

SEC("uretprobe")
int greenlet_born_hash(struct pt_regs *ctx)
{
	return born(RETURNED(ctx), UNIT_GREENLET);
}
