"""The Huffman code of HPACK (RFC 7541 §5.2, Appendix B).

The code is canonical: the lengths of the codes say all. Decoding goes from state to state, a byte at a time; a state is
how much of a code has been seen. What a byte does in a state is worked out when it first comes there.
"""

from __future__ import annotations

from typing import TypeAlias

# fmt: off
LENGTHS = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15,
    6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23,
    23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22,
    22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26,
    27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27,
    26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
)
# fmt: on
"""Bits of the code of each byte, and of EOS."""
_EOS = 256
_PADDING = 7
"""At most so many bits, all of them ones, follow the last code."""
_Step: TypeAlias = "tuple[int, bytes] | None"


def _tree() -> list[list[int]]:
    """Nodes: what follows on a 0 and on a 1; a node's number, or -1 - symbol."""
    nodes = [[0, 0]]
    code = before = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(LENGTHS)):
        code <<= length - before
        before = length
        at = 0
        for bit in range(length - 1, 0, -1):
            side = code >> bit & 1
            if not nodes[at][side]:
                nodes.append([0, 0])
                nodes[at][side] = len(nodes) - 1
            at = nodes[at][side]
        nodes[at][code & 1] = -1 - symbol
        code += 1
    return nodes


def _padding(nodes: list[list[int]]) -> frozenset[int]:
    """States in which a text may end."""
    ends, at = {0}, 0
    for _ in range(_PADDING):
        at = nodes[at][1]
        ends.add(at)
    return frozenset(ends)


class Huffman:
    """Decodes.

    >>> Huffman().decode(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff"))
    b'www.example.com'
    """

    def __init__(self) -> None:
        self._nodes = _tree()
        self._ends = _padding(self._nodes)
        self._steps: dict[int, _Step] = {}

    def decode(self, data: bytes) -> bytes | None:
        """The text; None: this is none (EOS in it, or padding that is too long or no ones)."""
        steps, state = self._steps, 0
        text: list[bytes] = []
        for byte in data:
            key = state << 8 | byte
            try:
                step = steps[key]
            except KeyError:
                step = steps[key] = self._step(state, byte)
            if step is None:
                return None
            state, symbols = step
            text.append(symbols)
        return b"".join(text) if state in self._ends else None

    def _step(self, state: int, byte: int) -> _Step:
        symbols = bytearray()
        for bit in range(7, -1, -1):
            state = self._nodes[state][byte >> bit & 1]
            if state < 0:
                if state == -1 - _EOS:
                    return None
                symbols.append(-1 - state)
                state = 0
        return state, bytes(symbols)
