"""Worker threads that a seed switches: the pool, and the locks of `threading`, on greenlets of one real thread.

A call of the pool runs in a greenlet of its own. At each call to the disk it may be put aside for as long as the seed
says, and other tasks and workers run meanwhile, as with real threads. Locks know who holds them: a worker that meets a
held one is put aside; the trio task that meets one (it would block the loop for a moment) lets the holder run first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

import trio
from greenlet import getcurrent, greenlet

T = TypeVar("T")


class Killed(BaseException):
    """The process ended by SIGKILL or with the power: no handler may do anything any more."""


class Stuck(BaseException):
    """Nothing can go on: everybody waits for somebody."""


class Job:
    """One call in a worker."""

    def __init__(self, threads: Threads, work: Callable[..., Any], args: tuple[object, ...]) -> None:
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.waits_for: SimLock | None = None
        self._work, self._args = work, args
        self.greenlet = greenlet(self._run, parent=threads.loop)

    def _run(self) -> None:
        try:
            self.value = self._work(*self._args)
        except BaseException as error:
            self.error = error
        self.done = True


class Threads:
    """The workers of one simulated process. `restless` is the chance that a worker is put aside at a disk call."""

    def __init__(self, rng: Random, *, restless: float) -> None:
        self.rng = rng
        self.restless = restless
        self.loop = getcurrent()
        self.dead = False
        self.switches = 0
        self._current: Job | None = None
        self._idle_turns = 0

    @property
    def current(self) -> Job | None:
        """The worker that runs now; None on the trio loop."""
        return self._current

    # --- pool ---

    async def disk(self, work: Callable[..., T], *args: object) -> T:
        """See Pool.disk."""
        await trio.lowlevel.checkpoint()
        return await self._call(work, args)

    async def talk(self, work: Callable[..., T], abort: Callable[[], None], *args: object) -> T:
        """See Pool.talk."""
        await trio.lowlevel.checkpoint()
        return await self._call(work, args)

    async def cpu(self, work: Callable[..., T], *args: object) -> T:
        """See Pool.cpu."""
        await trio.lowlevel.checkpoint()
        return await self._call(work, args)

    async def _call(self, work: Callable[..., T], args: tuple[object, ...]) -> T:
        if self.dead:
            raise Killed
        job = Job(self, work, args)
        while True:
            self._resume(job)
            if job.done:
                break
            for _ in range(self.rng.randint(1, 4)):
                await trio.lowlevel.cancel_shielded_checkpoint()
        if job.error is not None:
            raise job.error
        return job.value  # type: ignore[no-any-return]

    def _resume(self, job: Job) -> None:
        if job.done:
            return
        before, self._current = self._current, job
        try:
            job.greenlet.switch()
        finally:
            self._current = before

    # --- inside a worker ---

    def maybe_switch(self) -> None:
        """A point at which a real thread could be preempted."""
        self._idle_turns = 0
        if self.dead:
            raise Killed
        if self._current is not None and self.restless and self.rng.random() < self.restless:
            self.switch()

    def switch(self) -> None:
        """Put the current worker aside."""
        self.switches += 1
        self.loop.switch()
        if self.dead:
            raise Killed

    def wait_for(self, lock: SimLock) -> None:
        """Somebody meets a held lock: let others run until it is free."""
        self._idle_turns += 1
        if self._idle_turns > 20_000:
            raise Stuck(f"a lock is never released; {self._chain(lock)}")
        if self._current is not None:
            self._current.waits_for = lock
            try:
                self.switch()
            finally:
                if self._current is not None:
                    self._current.waits_for = None
            return
        holder = lock.owner
        while holder is not None and holder.waits_for is not None and holder.waits_for.owner is not None:
            holder = holder.waits_for.owner
            self._idle_turns += 1
            if self._idle_turns > 20_000:
                raise Stuck(f"locks wait for each other; {self._chain(lock)}")
        if holder is None:
            raise Stuck("the loop waits for a lock that it holds itself")
        self._resume(holder)

    @staticmethod
    def _chain(lock: SimLock) -> str:
        return f"held by {getattr(lock.owner, '_work', lock.owner)}"


class SimLock:
    """As threading.Lock, or RLock when `again`."""

    def __init__(self, threads: Threads, *, again: bool = False) -> None:
        self._threads = threads
        self._again = again
        self.held = 0
        self.owner: Job | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        threads = self._threads
        while self.held:
            if self._again and self.owner is threads.current:
                self.held += 1
                return True
            if not blocking:
                return False
            if threads.dead:
                raise Killed
            threads.wait_for(self)
        self.held, self.owner = 1, threads.current
        return True

    def release(self) -> None:
        assert self.held, "released and not held"
        self.held -= 1
        if not self.held:
            self.owner = None

    def locked(self) -> bool:
        return bool(self.held)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *about: object) -> None:
        self.release()


class SimCondition:
    """As threading.Condition."""

    def __init__(self, threads: Threads, lock: SimLock | None = None) -> None:
        self._threads = threads
        self._lock = lock or SimLock(threads, again=True)
        self.acquire, self.release = self._lock.acquire, self._lock.release
        self._woken = 0

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *about: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        assert self._threads.current is not None, "the loop must not wait on a condition"
        before = self._woken
        held, self._lock.held, self._lock.owner = self._lock.held, 0, None
        try:
            turns = 0
            while self._woken == before:
                turns += 1
                if turns > 200_000:
                    raise Stuck("a condition is never notified")
                self._threads.switch()
        finally:
            while self._lock.held and not self._threads.dead:
                self._threads.wait_for(self._lock)
            self._lock.held, self._lock.owner = held, self._threads.current
        return True

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        result = predicate()
        while not result:
            self.wait()
            result = predicate()
        return result

    def notify(self, count: int = 1) -> None:
        self._woken += 1

    notify_all = notify


class SimThreading:
    """What is used of `threading`. A name that is not here raises AttributeError."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self.local = threading.local

    def Lock(self) -> SimLock:
        return SimLock(self._threads)

    def RLock(self) -> SimLock:
        return SimLock(self._threads, again=True)

    def Condition(self, lock: SimLock | None = None) -> SimCondition:
        return SimCondition(self._threads, lock)
