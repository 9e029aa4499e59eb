"""What users call the peers of their services, from `peers.aliases`."""

from __future__ import annotations

from collections.abc import Sequence

from otel_ebpf.config.peerpattern import pattern_of
from otel_ebpf.config.rules import PeerAlias

REMEMBERED = 4096
"""Answers that are remembered; then all are looked for again."""


class Aliases:
    """The first alias that fits.

    >>> aliases = Aliases([PeerAlias("10.0.0.0/8", "billing"), PeerAlias("*.stripe.com", "stripe")])
    >>> aliases.find(80, "shop.test", "10.1.2.3"), aliases.find(443, "api.stripe.com"), aliases.find(53, "8.8.8.8")
    ('billing', 'stripe', '')
    """

    def __init__(self, rules: Sequence[PeerAlias] = ()) -> None:
        self._rules = [(pattern_of(rule.address), rule.name) for rule in rules]
        self._found: dict[tuple[int, tuple[str, ...]], str] = {}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def find(self, port: int, *hosts: str) -> str:
        """The alias of a peer that is known by these names and addresses; "" if none fits. port: 0 for none."""
        if not self._rules:
            return ""
        known = self._found.get((port, hosts))
        if known is None:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            known = self._found[port, hosts] = self._search(port, [host for host in hosts if host])
        return known

    def _search(self, port: int, hosts: list[str]) -> str:
        return next((name for pattern, name in self._rules if any(pattern.fits(host, port) for host in hosts)), "")
