"""Runtimes whose units of execution are not threads: found in running processes, and told to the kernel side."""

from __future__ import annotations
