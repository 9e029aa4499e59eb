"""The shop's own programs: each file is one process, configured by its environment; none is instrumented."""
