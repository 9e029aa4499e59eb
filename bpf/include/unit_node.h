/* Node: asynchronous ids. */
#pragma once

#include "lineage.h"

struct node_runtime {
	u64 unused;
};

static __always_inline u64 node_unit(const struct node_runtime *r, const struct unit_at *at)
{
	return 0;
}

static __always_inline void node_segment(const struct node_runtime *r, const struct unit_at *at, u64 after)
{
}
