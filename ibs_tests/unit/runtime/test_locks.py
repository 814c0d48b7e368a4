"""One key, one lock; several in one order, so that no two threads wait for each other."""

from __future__ import annotations

import trio

from ibs.runtime.locks import ShardLocks
from ibs.runtime.pool import ThreadPool


def test_a_key_always_has_the_same_lock() -> None:
    locks = ShardLocks(16)
    assert locks.shard(b"abcdefgh") == locks.shard(b"abcdxxxx")
    assert {locks.shard(n.to_bytes(4, "big")) for n in range(64)} == set(range(16))


async def test_threads_holding_many_keys_exclude_each_other_and_never_deadlock() -> None:
    locks, inside, broken = ShardLocks(8), set[bytes](), []
    keys = [n.to_bytes(4, "big") for n in range(8)]

    def work(order: list[bytes]) -> None:
        for _ in range(300):
            with locks.holding(order):
                if inside & set(order):
                    broken.append(order)
                inside.update(order)
                inside.difference_update(order)

    pool = ThreadPool(disk_threads=4)
    async with trio.open_nursery() as nursery:
        for order in (keys, keys[::-1], keys[2:5], [keys[4], keys[0], keys[4]]):
            nursery.start_soon(pool.disk, work, order)
    assert broken == []
