"""`make bench`: what observing costs, as ratios and per-unit figures of one run."""
