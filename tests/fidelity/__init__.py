"""The causality matrix: real programs of many runtimes under load, and how many of their calls got the right parent."""
