"""What the parts of one open datastore share: its store, clock, pool, gate and locks.

Used by `engine` only. Built once by `Datastores` when a store is opened, frozen, and handed to each part.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import trio

from ibs.core.blob import BlobDecoder
from ibs.core.events import Event, EventSource, JsonScalar, Severity
from ibs.core.names import Group, Namespace
from ibs.engine.folders import SnapshotFolders
from ibs.engine.leases import LeaseBook
from ibs.engine.modes import Modes
from ibs.engine.retained import Retained
from ibs.engine.session.pins import PinGate
from ibs.engine.storetime import StoreTime
from ibs.ports.catalog import KeyRegistry
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.storage.local.store import LocalStore


class GroupLocks:
    """One lock a group, alive while somebody holds or waits for it. Outermost of the engine's locks."""

    def __init__(self) -> None:
        self._locks: weakref.WeakValueDictionary[tuple[Namespace, Group], trio.Lock] = weakref.WeakValueDictionary()

    def of(self, namespace: Namespace, group: Group) -> trio.Lock:
        """Held while a session of the group opens or commits, and while its snapshots change."""
        key = (namespace, group)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = trio.Lock()
        return lock


class Decoders(threading.local):
    """One plain decoder a thread: decoders are not thread-safe, and making one costs more than most chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = BlobDecoder()


def no_one(uuid: str, snapshot: str, appeared: bool) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class StoreContext:
    """`generation` is the store's durable opening number; `signing_seed` (32 bytes) the server's own."""

    name: str
    uuid: str
    generation: int
    store: LocalStore
    folders: SnapshotFolders
    pool: Pool
    clock: Clock
    entropy: Callable[[int], bytes]
    keys: KeyRegistry
    publish: Callable[[Event], None]
    signing_seed: bytes = field(repr=False)
    gate: PinGate = field(default_factory=PinGate)
    locks: GroupLocks = field(default_factory=GroupLocks)
    decoders: Decoders = field(default_factory=Decoders)
    leases: LeaseBook = field(default_factory=LeaseBook)
    modes: Modes = field(default_factory=Modes)
    moved: Callable[[str, str, bool], None] = no_one
    """Told the store's uuid, a snapshot's name, and whether it appeared, when the server itself moves it."""
    time: StoreTime = field(init=False)
    retained: Retained = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", StoreTime(self.store.records, self.clock, self.store.boot_id))
        object.__setattr__(self, "retained", Retained(self.name, self.store.records, self.time))

    def new_id(self) -> str:
        """A fresh, unguessable name for a session or reader: 32 hex digits."""
        return self.entropy(16).hex()

    def emit(self, source: EventSource, severity: Severity, kind: str, text: str, **fields: JsonScalar) -> None:
        """Put a fact on the bus; never blocks. `datastore` is among its fields. Callable from any thread."""
        facts: Mapping[str, JsonScalar] = {"datastore": self.name, **fields}
        self.publish(Event(self.clock.now(), source, severity, kind, text, facts))
