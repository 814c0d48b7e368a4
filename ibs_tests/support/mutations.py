"""Ways to damage valid bytes, for property tests of parsers: flips, cuts, insertions, repeats, foreign numbers."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

Mutation = Callable[[bytes], bytes]

_TELLING = [b"\0", b"\xff", b"\x7f", b"\x80", b"\xff" * 4, b"\xff" * 8, b"\0" * 8, b"\x01\0\0\0", b"\0\0\0\x80"]
"""Values that sit at the edges of counts, lengths and signs."""


def mutations(most: int = 3) -> st.SearchStrategy[Mutation]:
    """One to `most` changes in a row; what comes out may, rarely, equal what went in."""
    return st.lists(_one(), min_size=1, max_size=most).map(_chain)


def _chain(steps: list[Mutation]) -> Mutation:
    def apply(data: bytes) -> bytes:
        for step in steps:
            data = step(data)
        return data

    return apply


def _one() -> st.SearchStrategy[Mutation]:
    place = st.one_of(st.integers(0, 300), st.integers(0, 1 << 20))
    piece = st.one_of(st.sampled_from(_TELLING), st.binary(min_size=1, max_size=40))
    return st.one_of(
        st.builds(_overwrite, place, piece),
        st.builds(_flip, place, st.integers(0, 7)),
        st.builds(_insert, place, piece),
        st.builds(_remove, place, st.integers(1, 64)),
        st.builds(_cut, place),
        st.builds(_repeat, place, st.integers(1, 64)),
    )


def _overwrite(place: int, piece: bytes) -> Mutation:
    def apply(data: bytes) -> bytes:
        at = place % (len(data) + 1)
        return data[:at] + piece + data[at + len(piece) :]

    return apply


def _flip(place: int, bit: int) -> Mutation:
    def apply(data: bytes) -> bytes:
        if not data:
            return data
        at = place % len(data)
        return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]

    return apply


def _insert(place: int, piece: bytes) -> Mutation:
    def apply(data: bytes) -> bytes:
        at = place % (len(data) + 1)
        return data[:at] + piece + data[at:]

    return apply


def _remove(place: int, count: int) -> Mutation:
    def apply(data: bytes) -> bytes:
        at = place % (len(data) + 1)
        return data[:at] + data[at + count :]

    return apply


def _cut(place: int) -> Mutation:
    def apply(data: bytes) -> bytes:
        return data[: place % (len(data) + 1)]

    return apply


def _repeat(place: int, count: int) -> Mutation:
    def apply(data: bytes) -> bytes:
        at = place % (len(data) + 1)
        return data[:at] + data[at : at + count] * 2 + data[at + count :]

    return apply
