"""Spans that others make: what SDKs in observed processes export, and which exchanges it tells of."""
