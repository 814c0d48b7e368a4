"""Cuts depend on the content only: any split into segments gives the cuts of the whole."""

from __future__ import annotations

from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ibs.core import limits
from ibs.core.chunker import Chunker

NOISE = blake3(b"cuts").digest(length=8 << 20)
CUT_AT = Chunker().cut(NOISE, final=True)[0]
TOP = limits.TREE_CHUNK_BYTES_MAX

# Pieces of a stream: (offset into noise, length) or a run of one byte, which is only ever cut at the maximum.
PIECES = st.one_of(
    st.tuples(st.integers(0, 1 << 20), st.integers(0, 3 << 20)).map(lambda p: NOISE[p[0] : p[0] + p[1]]),
    st.tuples(st.integers(0, 255), st.integers(0, 5 << 20)).map(lambda p: bytes([p[0]]) * p[1]),
)


def in_segments(cutter: Chunker, data: bytes, sizes: list[int]) -> list[int]:
    """Cut as a reader does: carry over what was left out, in front of the next segment."""
    cuts: list[int] = []
    start = end = turn = 0
    while True:
        end = min(len(data), end + sizes[turn % len(sizes)])
        turn += 1
        lengths = cutter.cut(memoryview(data)[start:end], final=end == len(data))
        assert end == len(data) or end - start - sum(lengths) < TOP  # what must be carried over is bounded
        cuts += lengths
        start += sum(lengths)
        if end == len(data):
            return cuts


@given(
    pieces=st.lists(PIECES, max_size=4),
    sizes=st.lists(st.integers(200_000, 6 << 20), min_size=1, max_size=4),
    seed=st.sampled_from([0, 1, 0xFEDC_BA98_7654_3210]),
)
@example(pieces=[NOISE], sizes=[CUT_AT], seed=0)
@example(pieces=[NOISE], sizes=[CUT_AT + 1, CUT_AT - 1], seed=0)
@example(pieces=[bytes(2 * TOP)], sizes=[TOP], seed=0)
@example(pieces=[bytes(2 * TOP)], sizes=[TOP + 1, TOP - 1], seed=0)
@settings(max_examples=60)
def test_segments_do_not_move_cuts(pieces: list[bytes], sizes: list[int], seed: int) -> None:
    data = b"".join(pieces)
    cutter = Chunker(seed)
    whole = cutter.cut(data, final=True)
    assert sum(whole) == len(data)
    assert all(limits.TREE_CHUNK_BYTES_MIN <= length <= TOP for length in whole[:-1])
    assert in_segments(cutter, data, sizes) == whole


@given(size=st.integers(0, len(NOISE)))
@settings(max_examples=60)
def test_what_is_cut_without_the_end_stays_cut(size: int) -> None:
    whole = Chunker().cut(NOISE, final=True)
    early = Chunker().cut(NOISE[:size], final=False)
    assert whole[: len(early)] == early
    # Nothing decided is held back: the next cut of the whole lies beyond what was given.
    assert sum(whole[: len(early) + 1]) >= size
