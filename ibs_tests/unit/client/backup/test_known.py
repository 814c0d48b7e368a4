"""What is known of chunks: exact, claimed once, acknowledged before anything names them."""

from __future__ import annotations

import os
from hashlib import blake2b

import numpy as np
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from ibs.client.backup.known import IdTable, Ledger, Watermark
from ibs.core.index import IdLookup


def an_id(number: int) -> bytes:
    return blake2b(number.to_bytes(8, "big"), digest_size=32).digest()


def test_a_table_keeps_many_ids_exactly() -> None:
    table = IdTable()
    for number in range(20_000):
        assert table.put(an_id(number), 1 + number % 255) == 0
    assert len(table) == 20_000
    assert all(table.get(an_id(number)) == 1 + number % 255 for number in range(20_000))
    assert not any(table.get(an_id(number)) for number in range(20_000, 40_000))
    assert table.put(an_id(3), 9) == 4
    assert table.get(an_id(3)) == 9
    assert len(table) == 20_000


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=2, max_size=2), st.integers(1, 255))))
def test_a_table_is_a_dict_even_for_ids_that_collide(steps: list[tuple[int, bytes, int]]) -> None:
    table, model = IdTable(), {}
    for first, last, value in steps:
        chunk_id = bytes([first]) + bytes(29) + last
        if not any(chunk_id):
            continue
        assert table.put(chunk_id, value) == model.get(chunk_id, 0)
        model[chunk_id] = value
    assert len(table) == len(model)
    assert all(table.get(chunk_id) == value for chunk_id, value in model.items())


def test_a_chunk_is_claimed_once() -> None:
    ledger = Ledger()
    held = np.frombuffer(an_id(1) + an_id(2), np.uint8).reshape(-1, 32)
    ledger.add_known(IdLookup(held))
    ledger.add_known(IdLookup(held[:0]))
    assert not ledger.claim(an_id(1))
    assert ledger.claim(an_id(3))
    assert not ledger.claim(an_id(3))
    ledger.acknowledge([an_id(3)])
    assert not ledger.claim(an_id(3))


async def test_nothing_counts_as_acknowledged_before_it_is() -> None:
    ledger = Ledger()
    ids = [an_id(n) for n in range(3)]
    for one in ids:
        ledger.claim(one)
    done = []

    async def wait() -> None:
        await ledger.acknowledged([ids[0], ids[2], an_id(99)])
        done.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for one in ids:
            await trio.testing.wait_all_tasks_blocked()
            assert not done
            ledger.acknowledge([one])
    assert done


async def test_a_watermark_rises_over_whole_stretches_only() -> None:
    mark = Watermark()
    passed: list[int] = []

    async def wait(number: int) -> None:
        await mark.wait(number)
        passed.append(number)

    await mark.wait(-1)
    async with trio.open_nursery() as nursery:
        for number in (0, 3, 5):
            nursery.start_soon(wait, number)
        mark.done(2, 3)
        await trio.testing.wait_all_tasks_blocked()
        assert passed == []
        mark.done(0, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(passed) == [0, 3]
        mark.done(4, 9)
    assert sorted(passed) == [0, 3, 5]


def test_random_ids_spread() -> None:
    table = IdTable()
    for _ in range(5000):
        table.put(os.urandom(32), 1)
    assert len(table) == 5000


def test_a_doubted_chunk_is_sent_once_although_it_is_known() -> None:
    ledger = Ledger()
    ids = np.frombuffer(bytes([1]) * 32 + bytes([2]) * 32, np.uint8).reshape(2, 32)
    ledger.add_known(IdLookup(ids))
    assert not ledger.claim(bytes([1]) * 32)
    ledger.doubt(bytes([1]) * 32)
    assert [ledger.claim(bytes([1]) * 32), ledger.claim(bytes([1]) * 32), ledger.claim(bytes([2]) * 32)] == [
        True, False, False,
    ]  # fmt: skip
