"""What must hold, whatever happens: the promises given so far, and the disk held against them.

Reads the simulated disk itself and none of the product's code. A finding is a `Violation`, which ends the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from blake3 import blake3

from ibs_tests.sim.alphabet import Letter, by_name
from ibs_tests.sim.disk import Disk, File, Folder, Node


class Violation(BaseException):
    """The product broke a promise. The message says which."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class State(StrEnum):
    """Of a snapshot, as its clients may believe."""

    COMMITTING = "committing"  # asked for, not answered: there whole, or not there
    FOUND = "found"  # never answered, seen after a restart: there whole, until the power goes
    ACKNOWLEDGED = "acknowledged"
    FORGETTING = "forgetting"  # asked to go, not answered
    FADING = "fading"  # the process died while it went, and it was gone then: the power may bring it back, whole
    GONE = "gone"


VISIBLE_OR_NOT = (State.COMMITTING, State.FORGETTING, State.FADING)


@dataclass(eq=False)
class Snapshot:
    """One snapshot: `records` of each archive, and the exact bytes of the other files."""

    name: str
    folder: str
    group: str
    owner: str
    manifest: bytes
    digests: dict[str, str]
    records: dict[str, bytes]
    blobs: dict[str, bytes]
    letters: frozenset[str]
    encrypted: bool
    state: State = State.COMMITTING

    @property
    def readable(self) -> bool:
        return self.state in (State.ACKNOWLEDGED, State.FOUND)


@dataclass(eq=False)
class Promise:
    """Chunks that somebody was told are there: an open session's, or the snapshot under an open reader."""

    who: str
    holds: Callable[[], bool]
    letters: set[str] = field(default_factory=set)


class Model:
    """The promises of one world."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.snapshots: dict[str, Snapshot] = {}
        self.promises: dict[Promise, None] = {}
        self.spoiled: set[str] = set()
        self.ever_spoiled: set[str] = set()
        self.ever_named: set[str] = set()
        self.checks: Counter[str] = Counter()
        self._good: dict[File, tuple[int, str]] = {}

    def asked(self, snapshot: Snapshot) -> None:
        """A commit of it is under way."""
        self.snapshots[snapshot.name] = snapshot
        self.ever_named |= snapshot.letters

    # --- what is on the disk ---

    def chunk_file(self, name: str) -> File | None:
        """The file of a chunk in its final place."""
        node = self.disk.look(f"chunks/{name[:4]}/{name}")
        return node if isinstance(node, File) else None

    def is_good(self, file: File, name: str) -> bool:
        """Whether the file holds this chunk, whole."""
        known = self._good.get(file)
        if known == (file.version, name):
            return True
        letter = by_name().get(name)
        if letter is None or bytes(file.data) not in letter.blobs:
            return False
        self._good[file] = (file.version, name)
        return True

    def there(self, name: str) -> bool:
        """Whether the chunk is in its final place, whole."""
        file = self.chunk_file(name)
        if file is None or not self.is_good(file, name):
            return False
        self.spoiled.discard(name)
        return True

    def received(self, name: str) -> bool:
        """Whether a whole copy waits for its barrier."""
        incoming = self.disk.look("chunks/incoming")
        assert isinstance(incoming, Folder)
        for epoch in incoming.entries.values():
            file = epoch.entries.get(name) if isinstance(epoch, Folder) else None
            if isinstance(file, File) and self.is_good(file, name):
                return True
        return False

    def spoil(self, name: str) -> None:
        """The world flipped a bit of it."""
        self.spoiled.add(name)
        self.ever_spoiled.add(name)

    # --- rules ---

    def check(self, *, when: str) -> None:
        """Every snapshot against the disk."""
        self.checks["disk"] += 1
        visible = {folder for folder, _ in self._visible()}
        for snapshot in self.snapshots.values():
            if snapshot.folder in visible:
                if snapshot.state is State.GONE:
                    raise Violation("gone stays gone", f"{snapshot.name} is back ({when})")
                self._check_whole(snapshot, when)
            elif snapshot.readable:
                raise Violation("nothing acknowledged is lost", f"{snapshot.name} ({snapshot.state}) is gone ({when})")
        unknown = visible - {snapshot.folder for snapshot in self.snapshots.values()}
        if unknown:
            raise Violation("nothing half visible", f"{sorted(unknown)[0]} was never asked for ({when})")

    def _visible(self) -> list[tuple[str, Folder]]:
        found = []
        waiting: list[tuple[str, Node]] = [("", self.disk.look("ns") or Folder(0))]
        while waiting:
            path, node = waiting.pop()
            assert isinstance(node, Folder)
            for name, below in node.entries.items():
                if isinstance(below, Folder):
                    inner = f"{path}/{name}" if path else name
                    if "manifest.json" in below.entries:
                        found.append((inner, below))
                    waiting.append((inner, below))
        return found

    def _check_whole(self, snapshot: Snapshot, when: str) -> None:
        where = f"{snapshot.name} ({snapshot.state}, {when})"
        folder = self.disk.look(f"ns/{snapshot.folder}")
        assert isinstance(folder, Folder)

        def content(name: str) -> bytes:
            node = folder.entries.get(name)
            if not isinstance(node, File):
                raise Violation("a visible snapshot is whole", f"{where} lacks {name}")
            return bytes(node.data)

        if content("manifest.json") != snapshot.manifest:
            raise Violation("a visible snapshot is whole", f"{where}: manifest.json is not what was committed")
        if not content("manifest.sig"):
            raise Violation("a visible snapshot is whole", f"{where}: manifest.sig is empty")
        for archive, records in snapshot.records.items():
            raw = content(f"{archive}.idx")
            if raw[256:] != records or blake3(raw).hexdigest() != snapshot.digests[archive]:
                raise Violation("a visible snapshot is whole", f"{where}: index of {archive} is not what was committed")
        for name, data in snapshot.blobs.items():
            if content(name) != data:
                raise Violation("a visible snapshot is whole", f"{where}: {name} is not what was committed")
        for name in snapshot.letters:
            if not self.there(name) and name not in self.spoiled:
                kind = "damaged" if self.chunk_file(name) is not None else "missing"
                raise Violation("a visible snapshot has its chunks", f"{where}: chunk {name[:16]} is {kind}")

    def check_unlink(self, name: str, file: File) -> None:
        """A chunk is about to be deleted from its final place."""
        self.checks["unlink"] += 1
        if not self.is_good(file, name):
            return
        for snapshot in self.snapshots.values():
            if snapshot.readable and name in snapshot.letters:
                raise Violation("only the unreachable is deleted", f"chunk {name[:16]} of {snapshot.name}")
        if self.received(name):
            return
        for promise in self.promises:
            if name in promise.letters and promise.holds():
                raise Violation("only the unreachable is deleted", f"chunk {name[:16]}, promised to {promise.who}")

    def check_put_aside(self, name: str, file: File) -> None:
        """A chunk is about to be called bad."""
        self.checks["put aside"] += 1
        if self.is_good(file, name):
            raise Violation("nothing good is called bad", f"chunk {name[:16]}")

    def check_promised(self, who: str, letters: list[Letter]) -> None:
        """These chunks were just said to be there."""
        self.checks["promise"] += 1
        for letter in letters:
            if letter.name in self.spoiled or self.there(letter.name) or self.received(letter.name):
                continue
            raise Violation("what is said to be there is there", f"chunk {letter.name[:16]} for {who}")

    # --- restarts ---

    def restarted(self, *, power_cut: bool) -> None:
        """The process is gone, with everybody's sessions and readers. The disk is what it is now."""
        self.promises.clear()
        visible = {folder for folder, _ in self._visible()}
        for snapshot in list(self.snapshots.values()):
            there = snapshot.folder in visible
            if snapshot.state is State.COMMITTING:
                if there:
                    snapshot.state = State.FOUND
                else:
                    del self.snapshots[snapshot.name]
            elif snapshot.state is State.FOUND and power_cut:
                if there:
                    snapshot.state = State.ACKNOWLEDGED  # it was on the platter
                else:
                    del self.snapshots[snapshot.name]
            elif snapshot.state in (State.FORGETTING, State.FADING):
                if there:
                    snapshot.state = State.ACKNOWLEDGED
                else:
                    snapshot.state = State.GONE if power_cut else State.FADING

    def of_group(self, group: str) -> list[Snapshot]:
        """Readable snapshots of a group."""
        return [each for each in self.snapshots.values() if each.readable and each.group == group]

    def figures(self) -> dict[str, Any]:
        """For the summary."""
        return dict(self.checks)
