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

    COMMITTING = "committing"  # asked for, not answered
    FOUND = "found"  # never answered, seen after a restart: there until the power goes, and then perhaps
    ACKNOWLEDGED = "acknowledged"
    FORGETTING = "forgetting"  # on its way to the bin
    BINNED = "binned"
    UNDOING = "undoing"  # on its way back
    PURGING = "purging"  # asked to go for good
    LEAVING = "leaving"  # it goes for good, and its move to the bin may not be on the platter yet
    FADING = "fading"  # the process died while it went, and it was gone then: the power may bring it back, whole
    GONE = "gone"


IN_PLACE, IN_BIN, NOWHERE = "in its place", "in the bin", "nowhere"
WHERE: dict[State, tuple[str, ...]] = {
    State.COMMITTING: (IN_PLACE, NOWHERE),
    State.FOUND: (IN_PLACE,),
    State.ACKNOWLEDGED: (IN_PLACE,),
    State.FORGETTING: (IN_PLACE, IN_BIN),
    State.BINNED: (IN_BIN,),
    State.UNDOING: (IN_PLACE, IN_BIN),
    State.PURGING: (IN_BIN, NOWHERE),
    State.LEAVING: (IN_PLACE, IN_BIN, NOWHERE),
    State.FADING: (IN_BIN, NOWHERE),
    State.GONE: (NOWHERE,),
}
"""Where a snapshot may be, and is whole if it is there. Somebody is always in one place only."""


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
    forgotten_at: float = 0.0
    by_server: bool = False
    """Made by the server from another one; it may be made anew, the same to the byte, while one is in the bin."""

    @property
    def kept(self) -> bool:
        """Whether its chunks must stay."""
        return NOWHERE not in WHERE[self.state]

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
        self.snapshots: dict[bytes, Snapshot] = {}
        """By the exact bytes of the manifest."""
        self.promises: dict[Promise, None] = {}
        self.spoiled: set[str] = set()
        self.ever_spoiled: set[str] = set()
        self.ever_named: set[str] = set()
        self.checks: Counter[str] = Counter()
        self._good: dict[File, tuple[int, str]] = {}

    def asked(self, snapshot: Snapshot) -> None:
        """A commit of it is under way."""
        self.snapshots[snapshot.manifest] = snapshot
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
        places = self.places()
        for raw, found in places.items():
            if raw not in self.snapshots:
                raise Violation("nothing half visible", f"{found[0][1]} was never asked for ({when})")
        for raw, snapshot in self.snapshots.items():
            found = places.get(raw, [])
            where = found[0][0] if found else NOWHERE
            if len(found) > 1 and not snapshot.by_server:
                raise Violation(
                    "a snapshot is in one place", f"{snapshot.name}: {[path for _, path, _ in found]} ({when})"
                )
            if where not in WHERE[snapshot.state]:
                raise Violation(
                    "a snapshot is where it was put", f"{snapshot.name} ({snapshot.state}) is {where} ({when})"
                )
            if found:
                if where == IN_PLACE and found[0][1] != snapshot.folder:
                    raise Violation("a snapshot is where it was put", f"{snapshot.name} is at {found[0][1]} ({when})")
                self._check_whole(snapshot, found[0][2], when)

    def check_final(self) -> None:
        """After a power cut: a name in a chunk folder is durable by construction, so what it means is whole."""
        self.checks["final place"] += 1
        for path, file in self.disk.walk("chunks"):
            folder, _, name = path.removeprefix("chunks/").rpartition("/")
            if len(folder) == 4 and name in by_name() and not self.is_good(file, name) and name not in self.spoiled:
                raise Violation("a chunk in its place is durable", f"{path} is not whole after a power cut")

    def places(self) -> dict[bytes, list[tuple[str, str, Folder]]]:
        """Every folder with a manifest, in its place or in the bin, by what the manifest says."""
        found: dict[bytes, list[tuple[str, str, Folder]]] = {}
        for where, top in ((IN_PLACE, "ns"), (IN_BIN, ".ibs/bin")):
            waiting: list[tuple[str, Node | None]] = [("", self.disk.look(top))]
            while waiting:
                path, node = waiting.pop()
                if not isinstance(node, Folder):
                    continue
                for name, below in node.entries.items():
                    if isinstance(below, Folder):
                        inner = f"{path}/{name}" if path else name
                        manifest = below.entries.get("manifest.json")
                        if isinstance(manifest, File):
                            found.setdefault(bytes(manifest.data), []).append((where, inner, below))
                        waiting.append((inner, below))
        return found

    def where(self, snapshot: Snapshot) -> str:
        """Where it is now."""
        found = self.places().get(snapshot.manifest)
        return found[0][0] if found else NOWHERE

    def _check_whole(self, snapshot: Snapshot, folder: Folder, when: str) -> None:
        where = f"{snapshot.name} ({snapshot.state}, {when})"

        def content(name: str) -> bytes:
            node = folder.entries.get(name)
            if not isinstance(node, File):
                raise Violation("a visible snapshot is whole", f"{where} lacks {name}")
            return bytes(node.data)

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
            if snapshot.kept and name in snapshot.letters:
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

    def lacking(self, letters: list[Letter]) -> list[Letter]:
        """Those that are known to be nowhere: missing, or put aside."""
        return [each for each in letters if self.chunk_file(each.name) is None and not self.received(each.name)]

    def check_healed(self, who: str, lacked: list[Letter]) -> None:
        """Whole bodies of these were just taken, and they were known to be missing."""
        for letter in lacked:
            if self.chunk_file(letter.name) is None and not self.received(letter.name):
                raise Violation("a body that was taken is there", f"chunk {letter.name[:16]} for {who}")

    # --- restarts ---

    def restarted(self, *, power_cut: bool) -> None:
        """The process is gone, with everybody's sessions and readers. The disk is what it is now."""
        self.promises.clear()
        places = self.places()
        for raw, snapshot in list(self.snapshots.items()):
            found = places.get(raw)
            after = _after_restart(snapshot.state, found[0][0] if found else NOWHERE, power_cut=power_cut)
            if after is None:
                del self.snapshots[raw]
            else:
                snapshot.state = after

    def of_group(self, group: str) -> list[Snapshot]:
        """Readable snapshots of a group."""
        return [each for each in self.snapshots.values() if each.readable and each.group == group]

    def figures(self) -> dict[str, Any]:
        """For the summary."""
        return dict(self.checks)


def _after_restart(state: State, where: str, *, power_cut: bool) -> State | None:
    """What is known of a snapshot when its process has ended; None when it never came to be.

    What a killed process did last may not be on the platter: only after a power cut is what is seen what there is.
    """
    if where not in WHERE[state] and not (state is State.FOUND and power_cut):
        return state  # the check that follows says so
    settled = {IN_PLACE: State.ACKNOWLEDGED, IN_BIN: State.BINNED, NOWHERE: State.GONE}[where]
    if state in (State.COMMITTING, State.FOUND):
        if where == NOWHERE:
            return None
        return settled if power_cut else State.FOUND
    if power_cut:
        return settled
    if state is State.LEAVING:
        return state
    begun = {State.FORGETTING: IN_BIN, State.UNDOING: IN_PLACE, State.PURGING: NOWHERE, State.FADING: NOWHERE}
    if begun.get(state) != where:
        return settled  # it had not begun
    return State.FADING if where == NOWHERE else state
