/* JVM: virtual threads. */
#pragma once

#include "lineage.h"

struct jvm_runtime {
	u64 unused;
};

static __always_inline u64 jvm_unit(const struct jvm_runtime *r, const struct unit_at *at)
{
	return 0;
}
