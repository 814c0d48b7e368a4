"""A state machine over the real local store: back up, forget, undo, protect, prune, expire, restart, collect, against
a model that knows where each snapshot is. After each step every snapshot that may be read reads as it was written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from ibs.core import limits
from ibs.core.names import Namespace, SnapshotName
from ibs.core.retention import Candidate, Policy, decide
from ibs.engine.datastore import Datastore
from ibs.engine.prune import Scope, execute, plan
from ibs.engine.references import protected_ids
from ibs.engine.session.discard import find_unreferenced, sweep
from ibs.engine.session.journal import id_array
from ibs.errors import ConflictError, NotFoundError, RefusedError
from ibs_tests.support.engine import OTHER, OWNER, Box, backup, read, snapshot_of

T = TypeVar("T")
DAY = 86_400
SPACES = ("", "a", "a/b")
OWNERS = (OWNER, OTHER)


@dataclass
class Known:
    """What the model knows of a snapshot. `forgotten`: the clock when it went to the bin; None while in its place."""

    name: SnapshotName
    chunks: list[bytes]
    owner: str
    protected: bool = False
    forgotten: float | None = None


class BinMachine(RuleBasedStateMachine):
    made = Bundle("made")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="ibs-bin-")
        self.box = Box(f"{self.folder}/store").create()
        self.known: dict[SnapshotName, Known] = {}
        self.number = 0
        self.datastore: Datastore = self.run(self.box.open)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        async def once() -> T:
            return await work()

        return trio.run(once)

    def in_place(self) -> list[Known]:
        return [one for one in self.known.values() if one.forgotten is None]

    def owner_of(self, name: SnapshotName) -> str:
        """Whose the group is: nobody's without a snapshot in its place."""
        for one in self.in_place():
            if (one.name.namespace, one.name.group) == (name.namespace, name.group):
                return one.owner
        return ""

    # --- rules ---

    @rule(
        target=made,
        space=st.sampled_from(SPACES),
        group=st.sampled_from(("x", "y")),
        who=st.sampled_from((OWNER, OTHER)),
    )
    def back_up(self, space: str, group: str, who: str) -> SnapshotName | None:
        self.number += 1
        self.box.clock.advance(3600)
        chunks = [b"own %d" % self.number, b"of %d" % (self.number % 3), b"meta"]

        async def work() -> SnapshotName | None:
            try:
                options = {"namespace": space, "group": f"host/{group}", "auth_id": who}
                return snapshot_of(await backup(self.datastore, {"etc.tree": chunks}, **options))
            except RefusedError:
                return None

        name = self.run(work)
        if name is not None:
            assert self.owner_of(name) in ("", who)
            self.known[name] = Known(name, chunks, who)
        return name

    @rule(name=made)
    def forget(self, name: SnapshotName | None) -> None:
        one = self.known.get(name) if name is not None else None
        if one is None:
            return

        async def work() -> str:
            try:
                await self.datastore.bin.put(one.name, "root@ibs")
            except (NotFoundError, RefusedError) as error:
                return type(error).__name__
            return ""

        wanted = "NotFoundError" if one.forgotten is not None else "RefusedError" if one.protected else ""
        assert self.run(work) == wanted
        if not wanted:
            one.forgotten = self.box.clock.monotonic()

    @rule(name=made)
    def undo(self, name: SnapshotName | None) -> None:
        one = self.known.get(name) if name is not None else None
        if name is None:
            return

        async def work() -> str:
            try:
                await self.datastore.bin.undo(str(name))
            except (NotFoundError, ConflictError) as error:
                return type(error).__name__
            return ""

        told = self.run(work)
        if one is None or one.forgotten is None:
            assert told == "NotFoundError"
        elif self.owner_of(one.name) not in ("", one.owner):
            assert told == "ConflictError"
        else:
            assert told == ""
            one.forgotten = None

    @rule(name=made, protected=st.booleans())
    def protect(self, name: SnapshotName | None, protected: bool) -> None:
        one = self.known.get(name) if name is not None else None
        if one is not None and one.forgotten is None:
            self.run(lambda: self.datastore.snapshots.annotate(one.name, protected=protected))
            one.protected = protected

    @rule(keep=st.integers(1, 3), daily=st.integers(0, 2))
    def prune(self, keep: int, daily: int) -> None:
        policy = Policy(keep_last=keep, keep_daily=daily)

        async def work() -> set[SnapshotName]:
            found = await plan(self.datastore.context, self.datastore.retention, Scope(policy=policy))
            done = await execute(
                self.datastore.context,
                self.datastore.bin,
                found,
                "root@ibs",
                lambda *_: None,
                retention=self.datastore.retention,
                override=True,
            )
            assert not done.skipped
            return set(done.removed)

        groups: dict[object, list[Known]] = {}
        for one in self.in_place():
            groups.setdefault((one.name.namespace, one.name.group), []).append(one)
        wanted = set()
        for members in groups.values():
            by_name = {str(one.name): one for one in members}
            candidates = [
                Candidate(str(one.name), one.name.time, protected=one.protected) for one in members if one.name.time
            ]
            wanted |= {by_name[one.candidate.name].name for one in decide(policy, candidates) if not one.keep}
        assert self.run(work) == wanted
        for name in wanted:
            self.known[name].forgotten = self.box.clock.monotonic()

    @rule(days=st.integers(1, 5))
    def time_passes(self, days: int) -> None:
        self.box.clock.advance(days * DAY)
        self.run(self.datastore.expire)
        now = self.box.clock.monotonic()
        for name, one in list(self.known.items()):
            if one.forgotten is not None and now - one.forgotten >= limits.BIN_GRACE_SECONDS:
                del self.known[name]

    @rule()
    def collect(self) -> None:
        """Delete all that nothing refers to."""

        async def work() -> None:
            gone = find_unreferenced(self.datastore.context)
            if gone:
                ids = id_array(b"".join(address.id for address in gone))
                await sweep(self.datastore.context, gone[0].domain, ids, skip=())

        self.run(work)

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        async def work() -> Datastore:
            if clean:
                await self.datastore.close("the server stops")
                return await self.box.open()
            return await self.box.kill(self.datastore)

        self.datastore = self.run(work)

    @rule()
    def empty_namespaces_go(self) -> None:
        for space in reversed(SPACES[1:]):
            parts = Namespace.parse(space).parts
            if any(one.name.namespace.parts[: len(parts)] == parts for one in self.in_place()):
                continue

            async def work(space: str = space) -> None:
                try:
                    await self.datastore.namespaces.remove(Namespace.parse(space), "root@ibs")
                except (NotFoundError, ConflictError):
                    return

            self.run(work)

    # --- what holds after each step ---

    @invariant()
    def all_is_where_the_model_says(self) -> None:
        if not hasattr(self, "datastore"):
            return

        async def work() -> None:
            assert set(await self.datastore.snapshots.every()) == {one.name for one in self.in_place()}
            entries = {entry.snapshot for entry in await self.datastore.bin.entries()}
            assert entries == {one.name for one in self.known.values() if one.forgotten is not None}
            for one in self.in_place():
                assert await read(self.datastore, str(one.name), "etc.tree") == one.chunks
                view = await self.datastore.snapshots.snapshot_view(one.name)
                assert view.protected is one.protected
            rooted = {row.tobytes() for part in protected_ids(self.datastore.context) for row in part.ids}
            assert len(rooted) == len({chunk for one in self.known.values() for chunk in one.chunks})

        self.run(work)

    def teardown(self) -> None:
        if hasattr(self, "box"):
            self.box.close()
            shutil.rmtree(self.folder)


TestBin = BinMachine.TestCase
TestBin.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
