"""Striped locks for worker threads: many keys share a few locks, so memory stays flat however many keys there are.

Used from pool threads. Invariants: one key always maps to the same lock; several are taken in one fixed order, so
two threads can never hold what the other waits for; a thread that holds some must not ask for more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from ibs.core import limits


class ShardLocks:
    """`shards` locks for keys of bytes (chunk ids: already evenly spread, so their first bytes choose the lock)."""

    def __init__(self, shards: int = limits.LOCK_SHARDS) -> None:
        self._locks = tuple(threading.Lock() for _ in range(shards))

    def shard(self, key: bytes) -> int:
        """Which lock guards `key`."""
        return int.from_bytes(key[:4], "big") % len(self._locks)

    @contextmanager
    def holding(self, keys: Iterable[bytes]) -> Iterator[None]:
        """Hold the locks of all `keys`. Blocks; never on the event loop."""
        with ExitStack() as held:
            for shard in sorted({self.shard(key) for key in keys}):
                held.enter_context(self._locks[shard])
            yield
