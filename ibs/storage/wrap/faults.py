"""Faults on purpose: hooks that disturb a local store at a named point, and a wrapper that fails calls of any store.

For tests and for processes that tests start; `app` installs `hook_from_environment` only where its configuration
allows fault injection. The points are listed in `ibs.storage.hooks`.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from ibs.errors import UsageError
from ibs.ports.chunkstore import Address, ChunkInfo, ChunkRows, ChunkStore, Counts, PutOutcome, Retired, Space, Trash
from ibs.storage.hooks import Hook, no_hook

KILL_AT = "IBS_KILL_AT"
"""Environment: `POINT:N` ends the process by SIGKILL at the Nth pass of that point."""


class Plan:
    """A hook that does something at the nth pass of a point, counted from 1. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: dict[str, list[tuple[int, int, Callable[[], None]]]] = {}
        self.passed: Counter[str] = Counter()

    def at(self, point: str, action: Callable[[], None], *, nth: int = 1, times: int = 1) -> Plan:
        """Run `action` at the `nth` pass of `point` and at the `times - 1` after it."""
        with self._lock:
            self._actions.setdefault(point, []).append((nth, nth + times, action))
        return self

    def fail(self, point: str, code: int = errno.EIO, *, nth: int = 1, times: int = 1) -> Plan:
        """Raise OSError(`code`) there, as the kernel would."""

        def refuse() -> None:
            raise OSError(code, os.strerror(code))

        return self.at(point, refuse, nth=nth, times=times)

    def kill(self, point: str, *, nth: int = 1) -> Plan:
        """End the process there, as `kill -9` would."""
        return self.at(point, kill_self, nth=nth)

    def __call__(self, point: str) -> None:
        with self._lock:
            self.passed[point] += 1
            now = self.passed[point]
            actions = [action for first, after, action in self._actions.get(point, ()) if first <= now < after]
        for action in actions:
            action()


def kill_self() -> None:
    """SIGKILL to this process: no handler runs, no buffer is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def hook_from_environment(environment: Mapping[str, str]) -> Hook:
    """The hook that IBS_KILL_AT asks for, else none. Raises UsageError."""
    wish = environment.get(KILL_AT, "")
    if not wish:
        return no_hook
    point, colon, count = wish.rpartition(":")
    if not colon or not count.isdigit() or int(count) < 1:
        raise UsageError(f"{KILL_AT}={wish!r} is not valid", hint="write it like put.rename:3")
    return Plan().kill(point, nth=int(count))


class FaultyStore:
    """A store whose calls fail when told to; otherwise the one below. Implements ChunkStore."""

    def __init__(self, below: ChunkStore) -> None:
        self.below = below
        self._lock = threading.Lock()
        self._errors: dict[str, list[Exception]] = {}
        self.calls: Counter[str] = Counter()

    def fail_next(self, method: str, *errors: Exception) -> None:
        """The next calls of `method` raise these, one each, before they reach the store below."""
        with self._lock:
            self._errors.setdefault(method, []).extend(errors)

    def _pass(self, method: str) -> ChunkStore:
        with self._lock:
            self.calls[method] += 1
            errors = self._errors.get(method)
            error = errors.pop(0) if errors else None
        if error is not None:
            raise error
        return self.below

    def put(self, address: Address, blob: bytes | bytearray | memoryview) -> PutOutcome:
        """See ChunkStore."""
        return self._pass("put").put(address, blob)

    def get(self, address: Address) -> bytes:
        """See ChunkStore."""
        return self._pass("get").get(address)

    def info(self, addresses: Sequence[Address]) -> list[ChunkInfo]:
        """See ChunkStore."""
        return self._pass("info").info(addresses)

    def iterate(self, prefix: str = "") -> Iterator[ChunkInfo]:
        """See ChunkStore."""
        return self._pass("iterate").iterate(prefix)

    def barrier(self) -> int:
        """See ChunkStore."""
        return self._pass("barrier").barrier()

    def mark_bad(self, address: Address) -> None:
        """See ChunkStore."""
        self._pass("mark_bad").mark_bad(address)

    def mark_suspect(self, address: Address) -> None:
        """See ChunkStore."""
        self._pass("mark_suspect").mark_suspect(address)

    def unavailable(self) -> frozenset[Address]:
        """See ChunkStore."""
        return self._pass("unavailable").unavailable()

    def discard(self, addresses: Sequence[Address]) -> int:
        """See ChunkStore."""
        return self._pass("discard").discard(addresses)

    def get_range(self, address: Address, start: int, length: int) -> bytes:
        """See ChunkStore."""
        return self._pass("get_range").get_range(address, start, length)

    def raise_epoch(self) -> int:
        """See ChunkStore."""
        return self._pass("raise_epoch").raise_epoch()

    def scan(self, first: bytes, last: bytes, epoch: int) -> Iterator[ChunkRows]:
        """See ChunkStore."""
        return self._pass("scan").scan(first, last, epoch)

    def retire(self, addresses: Sequence[Address], epoch: int, *, since: int, keep: bool = True) -> Retired:
        """See ChunkStore."""
        return self._pass("retire").retire(addresses, epoch, since=since, keep=keep)

    def revive(self, addresses: Sequence[Address]) -> Retired:
        """See ChunkStore."""
        return self._pass("revive").revive(addresses)

    def trash(self) -> list[Trash]:
        """See ChunkStore."""
        return self._pass("trash").trash()

    def trashed(self, epoch: int) -> Iterator[ChunkInfo]:
        """See ChunkStore."""
        return self._pass("trashed").trashed(epoch)

    def reclaim(self, epoch: int, *, limit: int | None = None) -> Retired:
        """See ChunkStore."""
        return self._pass("reclaim").reclaim(epoch, limit=limit)

    def publish(self, folder: str, files: Mapping[str, bytes | str], last: Sequence[str]) -> None:
        """See ChunkStore."""
        self._pass("publish").publish(folder, files, last)

    def counts(self) -> Counts:
        """See ChunkStore."""
        return self._pass("counts").counts()

    def record_verified(self, addresses: Sequence[Address], when: int) -> None:
        """See ChunkStore."""
        self._pass("record_verified").record_verified(addresses, when)

    def verified(self, addresses: Sequence[Address]) -> list[int | None]:
        """See ChunkStore."""
        return self._pass("verified").verified(addresses)

    def close(self, *, clean: bool = True) -> None:
        """See ChunkStore."""
        self._pass("close").close(clean=clean)

    def space(self) -> Space:
        """See ChunkStore."""
        return self._pass("space").space()
