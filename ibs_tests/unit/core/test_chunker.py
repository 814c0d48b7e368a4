"""Content-defined cuts: sizes, determinism, and independence of how the stream is handed over."""

from __future__ import annotations

import itertools

import pyfastcdc.py
import pytest
from blake3 import blake3
from pyfastcdc import FastCDC

from ibs.core import chunker, limits
from ibs.core.chunker import Chunker, check_build
from ibs.errors import FailedError

NOISE = blake3(b"chunker").digest(length=12 << 20)


def test_cuts_cover_the_data_within_the_sizes() -> None:
    lengths = Chunker().cut(NOISE, final=True)
    assert sum(lengths) == len(NOISE)
    assert all(limits.TREE_CHUNK_BYTES_MIN <= length <= limits.TREE_CHUNK_BYTES_MAX for length in lengths[:-1])
    assert len(lengths) > 3


def test_equal_content_has_equal_cuts_wherever_it_lies() -> None:
    before = set(itertools.accumulate(Chunker().cut(NOISE, final=True)))
    shifted = {end - 37 for end in itertools.accumulate(Chunker().cut(b"x" * 37 + NOISE, final=True))}
    assert len(before & shifted) >= len(before) - 2


def test_a_seed_moves_the_cuts() -> None:
    assert Chunker(1).cut(NOISE, final=True) != Chunker(0).cut(NOISE, final=True)
    top = (1 << 64) - 1
    assert Chunker(top).cut(NOISE, final=True) == Chunker(top).cut(NOISE, final=True)


def test_the_top_bit_of_a_seed_changes_nothing() -> None:
    """The compiled build cannot take it; the pure-Python one can, and shows that no cut depends on it."""
    data, seed = NOISE[:300_000], 0x1234_5678_9ABC_DEF1
    sizes = {"min_size": 1024, "max_size": 16384}
    whole = pyfastcdc.py.FastCDC(4096, seed=seed | 1 << 63, **sizes)
    cleared = FastCDC(4096, seed=seed, **sizes)
    assert [c.length for c in whole.cut_buf(data)] == [c.length for c in cleared.cut_buf(data)]
    assert Chunker(seed | 1 << 63).cut(NOISE, final=True) == Chunker(seed).cut(NOISE, final=True)


def test_content_without_cuts_is_cut_at_the_maximum() -> None:
    top = limits.TREE_CHUNK_BYTES_MAX
    assert Chunker().cut(bytes(top), final=False) == [top]  # no more data could move this one
    assert Chunker().cut(bytes(top - 1), final=False) == []
    assert Chunker().cut(bytes(2 * top + 5), final=True) == [top, top, 5]
    assert Chunker().cut(bytes(2 * top + 5), final=False) == [top, top]


@pytest.mark.parametrize("length", [0, 1, limits.TREE_CHUNK_BYTES_MIN])
def test_short_data(length: int) -> None:
    assert Chunker().cut(NOISE[:length], final=True) == ([length] if length else [])
    assert Chunker().cut(NOISE[:length], final=False) == []


def test_segments_give_the_cuts_of_the_whole() -> None:
    cutter = Chunker()
    carried, cuts = b"", []
    for start in range(0, len(NOISE), 1_000_003):
        data = carried + NOISE[start : start + 1_000_003]
        lengths = cutter.cut(memoryview(data), final=start + 1_000_003 >= len(NOISE))
        cuts += lengths
        carried = data[sum(lengths) :]
    assert cuts == Chunker().cut(NOISE, final=True)


def test_the_input_may_be_writable_and_is_let_go() -> None:
    data = bytearray(NOISE[: 3 << 20])
    with memoryview(data) as view:
        lengths = Chunker().cut(view, final=True)
    data.append(0)  # would raise BufferError if a view were kept
    assert lengths == Chunker().cut(NOISE[: 3 << 20], final=True)


def test_the_slow_build_is_refused_in_words() -> None:
    check_build("pyfastcdc.cy.fastcdc")
    with pytest.raises(FailedError, match=r"compiled build is missing \(pyfastcdc.py") as caught:
        check_build("pyfastcdc.py.fastcdc")
    assert "wheel" in caught.value.hint


def test_construction_asserts_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    class FastCDC:
        pass

    FastCDC.__module__ = "pyfastcdc.py.fastcdc"
    monkeypatch.setattr(chunker, "FastCDC", FastCDC)
    with pytest.raises(FailedError):
        Chunker()


def test_use_by_two_threads_at_once_is_loud() -> None:
    cutter = Chunker()
    with cutter._turn, pytest.raises(RuntimeError, match="two threads"):
        cutter.cut(NOISE, final=True)
    assert cutter.cut(b"x", final=True) == [1]
