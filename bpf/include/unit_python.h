/* CPython: contexts and greenlets. */
#pragma once

#include "lineage.h"

struct python_runtime {
	u64 unused;
};

static __always_inline u64 python_unit(const struct python_runtime *r, const struct unit_at *at)
{
	return 0;
}
