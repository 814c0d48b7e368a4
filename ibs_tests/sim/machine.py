"""One simulated machine: the disk, the process on it, its death, and the patching that puts the product onto it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from random import Random
from types import ModuleType
from typing import Any

import trio

from ibs.core import limits, limits_index
from ibs.runtime.clock import START
from ibs_tests.sim.database import Connection, sqlite_on
from ibs_tests.sim.disk import Disk
from ibs_tests.sim.face import Overlay, SimFcntl, SimOs, SimSecrets
from ibs_tests.sim.threads import Killed, SimThreading, Threads

MOUNT = "/sim/store"
PATCHED = ("ibs.storage.local", "ibs.engine", "ibs.runtime.locks")
SMALL = {
    "DISCARD_BATCH_CHUNKS": 3,
    "STORE_DISCARD_BATCH_CHUNKS": 2,
    "STORE_RETIRE_BATCH_CHUNKS": 2,
    "GC_BATCH_CHUNKS": 3,
    "GC_RECLAIM_CHUNKS": 3,
    "GC_STEP_INDEXES": 1,
    "PRESENCE_BATCH_IDS": 4,
}
SMALL_INDEX = {
    "INDEX_BLOCK_RECORDS": 2,
    "INDEX_HELD_BYTES_MAX": 350,
    "PRESENCE_RUN_IDS": 2,
    "JOURNAL_BLOCK_IDS": 3,
}
"""Batches so small that the few chunks here make several, with others at work in between."""
_NS = 1_000_000_000


class SimClock:
    """The loop's virtual time; the wall may jump, the monotonic time never does."""

    def __init__(self) -> None:
        self.wall_offset = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=trio.current_time() + self.wall_offset)

    def now_ns(self) -> int:
        return int(START.timestamp()) * _NS + int((trio.current_time() + self.wall_offset) * _NS)

    def monotonic(self) -> float:
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(max(seconds, 0.0))


class Machine:
    """Disk, threads, and who dies when. `tell` hears what happens; everything it hears is a function of the seed."""

    def __init__(self, seed: int, tell: Callable[[str], None]) -> None:
        rng = Random(f"{seed} machine")
        self.tell = tell
        self.whole_flush = rng.random() < 0.6
        self.disk = Disk(Random(f"{seed} disk"), capacity=4 << 20, journalled=rng.random() < 0.5)
        self.threads = Threads(Random(f"{seed} threads"), restless=rng.choice((0.0, 0.02, 0.1, 0.3)))
        self.os = SimOs(self.disk, MOUNT, self._step)
        self.connections: list[Connection] = []
        self.secrets = SimSecrets(Random(f"{seed} secrets"))
        self.clock = SimClock()
        self.boots = 1
        self.calls = 0
        self.log: list[str] | None = None
        self.passed: Counter[str] = Counter()
        self.died_at: Counter[str] = Counter()
        self.point = "start"
        self.die_at_call = 0
        self.die_at_point: tuple[str, int] | None = None
        self.digest: Callable[[bytes], Any] = lambda data: None

    @property
    def dead(self) -> bool:
        return self.threads.dead

    # --- points at which things happen ---

    def _step(self, call: str, name: str) -> None:
        if call != "preadv":  # reads into a buffer of its thread, and these threads are one to `threading.local`
            self.threads.maybe_switch()
        elif self.dead:
            raise Killed
        self.calls += 1
        self.digest(f"{call} {name}\n".encode())
        if self.calls == self.die_at_call:
            self.die(f"{call}")

    def hook(self, point: str) -> None:
        """The store's hook: the named points."""
        if self.dead:
            raise Killed
        self.passed[point] += 1
        self.point = point
        self.threads.maybe_switch()
        if self.die_at_point is not None and self.die_at_point[0] == point:
            self.die_at_point = (point, self.die_at_point[1] - 1)
            if self.die_at_point[1] <= 0:
                self.die(point)

    def die(self, where: str) -> None:
        """The process is gone, now. Whoever is at work finds out at its next step."""
        self.threads.dead = True
        self.died_at[self.point if where != self.point else where] += 1
        self.tell(f"the process dies at {where} (last point {self.point}, call {self.calls})")
        raise Killed

    def bury(self, *, power_cut: bool) -> None:
        """After everybody has ended: free what the kernel frees, and with the power lose what is lost."""
        for connection in self.connections:
            connection.leave()
        self.connections.clear()
        self.os.die()
        self.die_at_call, self.die_at_point = 0, None
        if power_cut:
            self.disk.cut_power()
            self.boots += 1
        self.threads.dead = False
        self.point = "start"

    # --- the product on this machine ---

    @contextlib.contextmanager
    def running_product(self) -> Iterator[None]:
        """Inside, the modules of the store and the engine see this machine instead of the real one."""
        shims: dict[ModuleType, Any] = {
            os: self.os,
            threading: SimThreading(self.threads),
            fcntl: SimFcntl(self.os),
            secrets: self.secrets,
        }
        undo: list[tuple[ModuleType, str, Any]] = []
        for home, small in ((limits, SMALL), (limits_index, SMALL_INDEX)):
            for limit, value in small.items():
                undo.append((home, limit, getattr(home, limit)))
                setattr(home, limit, value)
        for name, module in sorted(sys.modules.items()):
            if not name.startswith(PATCHED):
                continue
            for attribute, value in list(vars(module).items()):
                shim = shims.get(value) if isinstance(value, ModuleType) else None
                if value is sqlite3 and name.endswith(".chunkdb"):
                    shim = sqlite_on(self.os, self.connections)
                if shim is not None:
                    undo.append((module, attribute, value))
                    setattr(module, attribute, shim)
        try:
            yield
        finally:
            for module, attribute, value in undo:
                setattr(module, attribute, value)


__all__ = ["MOUNT", "Killed", "Machine", "Overlay"]
