"""Places in shared memory: never two owners at once, whole again when nobody looks any more."""

from __future__ import annotations

import gc
import itertools
import mmap
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ibs.runtime.arena import Arena

SIZE = 1 << 16


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(SIZE)
    yield made
    made.close()


def test_what_another_map_writes_is_seen_in_the_view(arena: Arena) -> None:
    at = arena.take(1000)
    assert at is not None
    with mmap.mmap(arena.fd, SIZE) as other:
        other[at : at + 1000] = b"x" * 1000
    view = arena.view(at, 1000)
    assert view == b"x" * 1000
    assert view.readonly


def test_a_slice_of_a_view_keeps_the_place_and_its_end_frees_it(arena: Arena) -> None:
    at = arena.take(SIZE)
    assert at == 0
    assert arena.take(1) is None
    part = arena.view(at, SIZE)[10:20]
    gc.collect()
    assert arena.take(1) is None
    del part
    assert arena.free_bytes == SIZE
    assert arena.take(SIZE) == 0


def test_a_closed_arena_still_shows_what_is_there(arena: Arena) -> None:
    at = arena.take(64)
    assert at is not None
    view = arena.view(at, 64)
    arena.close()
    arena.close()
    assert bytes(view) == bytes(64)


@dataclass
class Held:
    at: int
    size: int
    view: memoryview | None


class Places(RuleBasedStateMachine):
    """Whatever is taken, looked at and given back in whatever order: places in use never overlap, none is lost."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena(SIZE)
        self.model: list[Held] = []

    @rule(target=held, size=st.integers(1, SIZE // 3), look=st.booleans())
    def take(self, size: int, look: bool) -> Held:
        at = self.arena.take(size)
        if at is None:
            return Held(-1, 0, None)
        made = Held(at, size, self.arena.view(at, size) if look else None)
        self.model.append(made)
        return made

    @rule(one=consumes(held))
    def give(self, one: Held) -> None:
        if one.at < 0:
            return
        self.model.remove(one)
        if one.view is not None:
            one.view = None
        else:
            self.arena.give_back(one.at)

    @invariant()
    def apart(self) -> None:
        spans = sorted((one.at, one.at + one.size) for one in self.model)
        assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))
        used = sum(-(-one.size // 64) * 64 for one in self.model)
        assert self.arena.free_bytes == SIZE - used
        if not self.model:
            assert self.arena._free == [(0, SIZE)]

    def teardown(self) -> None:
        self.arena.close()


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
