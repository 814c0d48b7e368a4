"""Garbage collection against a model: backups, forgetting, undoing, collecting, dying, in any order and nested.

Promises checked after every step: what a visible or binned snapshot refers to is there and durable; what an open or
interrupted session delivered is there; a run takes exactly what nothing refers to; an undo brings exactly that back;
after any stop all of it still holds.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ibs.core import limits
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.gc import run as module
from ibs.engine.gc.plan import Options as GcOptions
from ibs.engine.gc.run import Outcome
from ibs.errors import NotFoundError
from ibs.storage.local import Options
from ibs_tests.support.engine import Box, Writer, address_of, read, start

T = TypeVar("T")
GROUPS = ("host/a", "host/b", "vm/1")
CHUNKS = [bytes([65 + number]) * (10 + number) for number in range(7)]
chunk_lists = st.lists(st.sampled_from(CHUNKS), min_size=1, max_size=4, unique=True)
picks = st.integers(0, 9)


class GcMachine(RuleBasedStateMachine):
    """The system under test is a real store in a folder; the model is a few dictionaries of what must be there."""

    def __init__(self) -> None:
        super().__init__()
        self.step_indexes, limits.GC_STEP_INDEXES = limits.GC_STEP_INDEXES, 1  # something may happen after each index
        self.folder = tempfile.mkdtemp(prefix="ibs-gc-machine-")
        options = Options(flush_whole=True, flush=lambda _: None)  # power loss is not part of this model
        self.box = Box(f"{self.folder}/store", options=options).create()
        self.visible: dict[str, list[bytes]] = {}
        self.binned: dict[str, list[bytes]] = {}
        self.sent: dict[str, set[bytes]] = {}
        """By group: what its open or interrupted session delivered. Journals may hold more, never less."""
        self.writers: dict[str, Writer] = {}
        self.trashed: list[set[bytes]] = []
        self.roots = 0
        self.datastore: Datastore

    def do(self, work: Callable[[], Awaitable[T]]) -> T:
        return trio.run(work)

    @initialize()
    def first_opening(self) -> None:
        self.datastore = self.do(self.box.open)

    def teardown(self) -> None:
        limits.GC_STEP_INDEXES = self.step_indexes
        self.box.close()
        shutil.rmtree(self.folder)

    # --- what clients and administrators do; also in the middle of a collection ---

    async def send_now(self, number: int, chunks: list[bytes]) -> None:
        group = GROUPS[number % len(GROUPS)]
        if group not in self.writers:
            self.writers[group] = await start(self.datastore, group=group)
        await self.writers[group].send(*chunks)
        self.sent.setdefault(group, set()).update(chunks)
        self.came_back(set(chunks))

    async def commit_now(self, number: int, chunks: list[bytes]) -> None:
        await self.send_now(number, chunks)
        group = GROUPS[number % len(GROUPS)]
        writer = self.writers.pop(group)
        self.roots += 1
        whole = [*chunks, b"root %d" % self.roots]
        await writer.send(whole[-1])
        await writer.archive("etc.tree", whole, send=False)
        name = (await writer.commit()).snapshot
        self.visible[name] = whole
        self.sent.pop(group)

    async def forget_now(self, number: int, _: list[bytes]) -> None:
        if self.visible:
            name = sorted(self.visible)[number % len(self.visible)]
            await self.datastore.bin.put(SnapshotName.parse(name), "root@ibs")
            self.binned[name] = self.visible.pop(name)

    async def unforget_now(self, number: int, _: list[bytes]) -> None:
        if self.binned:
            name = sorted(self.binned)[number % len(self.binned)]
            await self.datastore.bin.undo(name)
            self.visible[name] = self.binned.pop(name)

    async def purge_now(self, number: int, _: list[bytes]) -> None:
        if self.binned:
            name = sorted(self.binned)[number % len(self.binned)]
            await self.datastore.bin.purge(name)
            del self.binned[name]

    def came_back(self, chunks: set[bytes]) -> None:
        for some in self.trashed:
            some -= chunks

    ACTS = (send_now, commit_now, forget_now, unforget_now, purge_now)

    @rule(act=st.sampled_from(ACTS), number=picks, chunks=chunk_lists)
    def act(self, act: Callable[..., Awaitable[None]], number: int, chunks: list[bytes]) -> None:
        self.do(lambda: act(self, number, chunks))

    @precondition(lambda self: self.writers)
    @rule(number=picks)
    def abort(self, number: int) -> None:
        group = sorted(self.writers)[number % len(self.writers)]
        writer = self.writers.pop(group)
        self.do(lambda: writer.session.interrupt("gone"))

    # --- collecting ---

    @rule(
        at=st.integers(0, 16),
        act=st.sampled_from(ACTS),
        number=picks,
        chunks=chunk_lists,
        reclaim=st.sampled_from([False, False, True]),
    )
    def collect(
        self, at: int, act: Callable[..., Awaitable[None]], number: int, chunks: list[bytes], reclaim: bool
    ) -> None:
        before, in_trash = self.needed(), set().union(*self.trashed) if self.trashed else set()
        quiet, steps = True, 0
        real = module.GcRun._step

        async def step(run: module.GcRun, work: Callable[[], object]) -> object:
            nonlocal steps, quiet
            steps += 1
            if steps == at:
                quiet = False
                await act(self, number, chunks)
            return await real(run, work)

        module.GcRun._step = step  # type: ignore[method-assign, assignment]
        try:
            outcome: Outcome = self.do(lambda: self.datastore.gc.run(GcOptions(share_percent=100, reclaim_now=reclaim)))
        finally:
            module.GcRun._step = real  # type: ignore[method-assign]
        event("into each other" if not quiet else "alone")
        assert outcome.taken_back == 0, "something that is referred to was in trash"
        gone = self.there("durable") - before - self.needed()
        if quiet:
            assert gone - self.unknown() == set(), "garbage was left behind"
        if reclaim:
            self.trashed = []
        else:
            self.trashed.append(self.there("retired") - in_trash)

    @precondition(lambda self: any(self.trashed))
    @rule(everything=st.booleans())
    def undo(self, everything: bool) -> None:
        full = [some for some in self.trashed if some]
        wanted = set().union(*full) if everything else full[-1]
        self.do(lambda: self.datastore.gc.undo(everything=everything))
        assert wanted <= self.there("durable")
        self.came_back(wanted)

    @precondition(lambda self: not any(self.trashed))
    @rule()
    def undo_nothing(self) -> None:
        try:
            self.do(self.datastore.gc.undo)
        except NotFoundError:
            return
        # Roots of snapshots are garbage that this model does not follow one by one.
        assert self.there("retired") == set()

    @rule()
    def a_day_passes(self) -> None:
        self.box.clock.advance(limits.GC_TRASH_GRACE_SECONDS)
        if self.datastore.context.time.frozen:
            self.datastore.context.time.confirm("test")
        self.do(self.datastore.gc.expire)
        assert self.there("retired") == set()
        self.trashed = []

    # --- stops ---

    @rule(clean=st.booleans())
    def stop(self, clean: bool) -> None:
        if clean:
            self.do(lambda: self.datastore.close("stopped"))
            self.datastore = self.do(self.box.open)
        else:
            self.datastore = self.do(lambda: self.box.kill(self.datastore))
        self.writers.clear()

    # --- what must always hold ---

    def needed(self) -> set[bytes]:
        """Everything that snapshots and the bin refer to, and that sessions delivered."""
        every = [*map(set, self.visible.values()), *map(set, self.binned.values()), *self.sent.values()]
        return set().union(*every) if every else set()

    def unknown(self) -> set[bytes]:
        """Chunks that journals may still name though the model does not: bases of open sessions, leftovers."""
        if self.writers or self.datastore.sessions.interrupted_sessions:
            return set(CHUNKS)
        return set()

    def there(self, state: str) -> set[bytes]:
        infos = self.datastore.store.info([address_of(data) for data in CHUNKS])
        return {data for data, info in zip(CHUNKS, infos, strict=True) if info.state.value == state}

    @invariant()
    def what_is_needed_is_there(self) -> None:
        if not hasattr(self, "datastore"):
            return
        for data in self.needed():
            [info] = self.datastore.store.info([address_of(data)])
            assert info.state.value in ("durable", "received"), data

    @invariant()
    def snapshots_read_back(self) -> None:
        if not hasattr(self, "datastore"):
            return
        for name, chunks in list(self.visible.items())[-2:]:
            assert self.do(lambda name=name: read(self.datastore, name, "etc.tree")) == chunks  # type: ignore[misc]
        assert self.datastore.store.unavailable() == frozenset()

    @invariant()
    def the_bin_holds_what_was_forgotten(self) -> None:
        if hasattr(self, "datastore"):
            entries = self.do(self.datastore.bin.entries)
            assert {str(entry.snapshot) for entry in entries} == set(self.binned)


TestGcMachine = GcMachine.TestCase
TestGcMachine.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
