"""What a store holds open while it is in use: descriptors, locks and helpers that its parts share.

Used inside `storage.local`. All access goes through these descriptors, never through the configured path again
(PROTOCOLS 5): when something is mounted over the path, or unmounted lazily, no byte lands in the wrong place.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from ibs.runtime.locks import ShardLocks
from ibs.storage.hooks import Hook
from ibs.storage.local import files
from ibs.storage.local.durable import Flusher
from ibs.storage.local.gate import Gate
from ibs.storage.local.layout import CHUNKS, DIR_MODE, INCOMING, LEASES, META, SNAPSHOTS, STAGING, is_prefix
from ibs.storage.local.space import Reserve, Room
from ibs.storage.local.trouble import border


class Folders:
    """Descriptors of a store's fixed folders, opened once by `root_fd`. `close` exactly once."""

    def __init__(self, root_fd: int) -> None:
        """Takes `root_fd` over. Raises OSError when a folder is missing; everything is closed then."""
        self.root = root_fd
        opened: list[int] = [root_fd]
        try:
            for path in (META, CHUNKS, f"{CHUNKS}/{INCOMING}", STAGING, SNAPSHOTS, f"{META}/{LEASES}"):
                opened.append(files.open_dirs(path.split("/"), dir_fd=root_fd))
            self._check_one_file_system(opened)
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise
        _, self.meta, self.chunks, self.incoming, self.staging, self.snapshots, self.leases = opened
        self._opened = opened

    @staticmethod
    def _check_one_file_system(opened: list[int]) -> None:
        """One flush must cover everything, and files move between these folders by rename. Raises OSError (EXDEV)."""
        if len({os.fstat(fd).st_dev for fd in opened}) > 1:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def close(self) -> None:
        """Close them all."""
        opened, self._opened = self._opened, []
        for fd in opened:
            os.close(fd)


class Prefixes:
    """Which of the 65,536 chunk folders exist; they are made as they are needed and never removed."""

    def __init__(self, chunks_fd: int) -> None:
        self._fd = chunks_fd
        self._there = bytearray(65_536)  # one byte each: set by several threads without a lock
        for name in os.listdir(chunks_fd):
            if is_prefix(name):
                self._there[int(name, 16)] = 1

    def there(self, prefix: str) -> bool:
        """Whether the folder exists."""
        return bool(self._there[int(prefix, 16)])

    def ensure(self, prefix: str) -> bool:
        """Make the folder; True when it is new. Raises OSError."""
        if self._there[int(prefix, 16)]:
            return False
        made = files.make_dir(prefix, dir_fd=self._fd)
        self._there[int(prefix, 16)] = 1
        return made

    def all(self) -> list[str]:
        """Every existing prefix, in order."""
        found, at = [], self._there.find(1)
        while at >= 0:
            found.append(f"{at:04x}")
            at = self._there.find(1, at + 1)
        return found


@dataclass(slots=True)
class Held:
    """One open store. `name` is for messages; `epoch` is its generation, raised now and then; `arrivals` the incoming
    folder of this open, called by the generation it began with.
    """

    name: str
    path: str
    folders: Folders
    epoch: int
    hook: Hook
    gate: Gate
    flusher: Flusher
    room: Room
    reserve: Reserve
    prefixes: Prefixes
    shards: ShardLocks = field(default_factory=ShardLocks)
    arrivals: int = -1
    arrivals_name: str = ""
    manifests_removed: bool = False  # since the last flush of everything; see `Discarder`

    @property
    def arrivals_path(self) -> str:
        """The incoming folder of this open, relative to the root."""
        return f"{CHUNKS}/{INCOMING}/{self.arrivals_name}"

    def open_arrivals(self) -> None:
        """Make and hold the incoming folder of this open. Raises OSError."""
        self.arrivals_name = str(self.epoch)
        os.mkdir(self.arrivals_name, DIR_MODE, dir_fd=self.folders.incoming)
        self.flusher.folder(f"{CHUNKS}/{INCOMING}")
        self.arrivals = files.open_dir(self.arrivals_name, dir_fd=self.folders.incoming)

    @contextlib.contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Inside the gate and the border of errors. `what` is a clause such as `reading a chunk`."""
        with self.gate.reading(), border(self.name, what, root_fd=self.folders.root):
            yield

    @contextlib.contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """As `reading`, for what changes the store."""
        with self.gate.writing(), border(self.name, what, root_fd=self.folders.root):
            yield

    def close(self) -> None:
        """Wait for calls inside, then close every descriptor. The gate is offline already."""
        self.gate.drain()
        if self.arrivals >= 0:
            os.close(self.arrivals)
            self.arrivals = -1
        self.folders.close()
