"""Pooled segments: few, reused, free only when nobody holds them."""

from __future__ import annotations

import trio
import trio.testing

from ibs.client.backup.buffers import SegmentPool


def test_segments_are_made_when_needed_and_used_again() -> None:
    pool = SegmentPool(2, 4096)
    first = pool.take()
    assert first is not None
    assert len(first.view) == 4096
    pool.drop(first)
    assert pool.take() is first
    second = pool.take()
    assert second is not None
    assert second is not first
    assert pool.take() is None


def test_a_segment_is_free_when_its_last_holder_is_gone() -> None:
    pool = SegmentPool(1, 4096)
    segment = pool.take()
    assert segment is not None
    pool.hold(segment)
    pool.drop(segment)
    assert pool.take() is None
    pool.drop(segment)
    assert pool.take() is segment


async def test_waiting_for_a_free_segment() -> None:
    pool = SegmentPool(1, 4096)
    await pool.wait_free()
    segment = pool.take()
    assert segment is not None
    woken = []

    async def wait() -> None:
        await pool.wait_free()
        woken.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        pool.announce()
        await trio.testing.wait_all_tasks_blocked()
        assert not woken
        pool.drop(segment)
        pool.announce()
    assert woken
