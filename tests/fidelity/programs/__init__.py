"""The two ends of every row, each a process of its own, so that what they know owes nothing to the program between."""
