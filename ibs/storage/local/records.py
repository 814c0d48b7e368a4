"""Small records that live in the store beside its identity: its clock, retention, locks and schedules, its last
garbage collection. What they say is the engine's.

`engine` uses them through `LocalStore.records`. Each is one JSON file below `.ibs/`, replaced whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ibs.core import limits
from ibs.errors import UsageError
from ibs.storage.local import files
from ibs.storage.local.held import Held

CLOCK: Final = "clock.json"
RETENTION: Final = "retention.json"
GC: Final = "gc.json"
LOCKS: Final = "locks.json"
HISTORY: Final = "history.json"
SCHEDULES: Final = "schedules.json"
_KNOWN: Final = frozenset({GC, CLOCK, HISTORY, LOCKS, RETENTION, SCHEDULES})


@dataclass(frozen=True, slots=True)
class StoreRecords:
    """Thread-safe. Methods raise DatastoreOffline besides what they say."""

    held: Held
    check_owner: Callable[[], None]

    def read(self, name: str) -> bytes:
        """The record; empty when there is none. Raises FormatError when it is longer than any record may be."""
        with self.held.reading(f"reading {_checked(name)}"):
            try:
                return files.read_file(name, dir_fd=self.held.folders.meta, limit=limits.STORE_STATE_BYTES_MAX)
            except FileNotFoundError:
                return b""

    def write(self, name: str, data: bytes) -> None:
        """Replace it; on a full disk as long as the reserve lasts. Raises UsageError when it is too long, and
        DatastoreReadOnly. *Durability*: durable when it returns.
        """
        _checked(name)
        if len(data) > limits.STORE_STATE_BYTES_MAX:
            raise UsageError(f"{name} of {len(data)} bytes is larger than {limits.STORE_STATE_BYTES_MAX}")
        with self.held.writing(f"writing {name}"):
            self.check_owner()
            self.held.reserve.retrying(lambda: files.replace(name, data, dir_fd=self.held.folders.meta))


def _checked(name: str) -> str:
    if name not in _KNOWN:
        raise UsageError(f"{name!r} is no record of a store")
    return name
