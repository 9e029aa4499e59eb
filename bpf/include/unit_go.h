/* Go: goroutines. */
#pragma once

#include "lineage.h"

struct go_runtime {
	u64 unused;
};

static __always_inline u64 go_unit(const struct go_runtime *r, const struct unit_at *at)
{
	return 0;
}
