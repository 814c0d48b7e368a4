"""Sessions against a model: whatever the order of opening, sending, committing, dying and cleaning up.

Promises checked: an acknowledged commit is never lost and reads back byte for byte; nothing else is ever visible; an
index never names what its session did not deliver; after clean-up the store holds what is referred to and no more.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import trio
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ibs.core import limits
from ibs.core.ids import chunk_id
from ibs.core.index import KIND_DATA, tree_record
from ibs.engine.datastore import Datastore
from ibs.engine.session.facts import SessionState
from ibs.engine.session.journal import id_array
from ibs.errors import BusyError, ChunkNotFound, CorruptChunk, IbsError, RefusedError, SessionLost
from ibs.storage.local import Options
from ibs_tests.support.engine import OTHER, OWNER, Box, Writer, address_of, read, start

T = TypeVar("T")

GROUPS = ("host/a", "host/b")
OWNERS = (OWNER, OTHER)
CHUNKS = [bytes([65 + number]) * (10 + number) for number in range(8)]
chunk_lists = st.lists(st.sampled_from(CHUNKS), min_size=1, max_size=4, unique=True)
groups = st.sampled_from(GROUPS)
some_live = precondition(lambda self: self.live)
picks = st.integers(0, len(GROUPS) - 1)


@dataclass
class Live:
    """A session as the test's client knows it."""

    writer: Writer
    sent: set[bytes] = field(default_factory=set)
    listed: list[bytes] = field(default_factory=list)


class SessionMachine(RuleBasedStateMachine):
    """The system under test is a real store in a folder; the model is three dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="ibs-machine-")
        # Power loss is not part of this model, so nothing needs to reach the disk.
        options = Options(flush_whole=True, flush=lambda _: None)
        self.box = Box(f"{self.folder}/store", options=options).create()
        self.live: dict[str, Live] = {}
        self.owner: dict[str, str] = {}
        self.committed: dict[str, list[bytes]] = {}
        self.damaged: set[bytes] = set()
        self.datastore: Datastore

    def do(self, work: Callable[[], Awaitable[T]]) -> T:
        return trio.run(work)

    @initialize()
    def first_opening(self) -> None:
        self.datastore = self.do(self.box.open)

    def teardown(self) -> None:
        self.box.close()
        shutil.rmtree(self.folder)

    # --- a client ---

    @rule(group=groups, auth_id=st.sampled_from(OWNERS), base=st.booleans())
    def open(self, group: str, auth_id: str, base: bool) -> None:
        busy = group in self.live
        foreign = self.owner.get(group, auth_id) != auth_id
        try:
            writer = self.do(lambda: start(self.datastore, group=group, auth_id=auth_id, use_base=base))
        except BusyError:
            assert busy
            return
        except RefusedError:
            assert foreign
            return
        assert not foreign
        assert not busy
        live = self.live[group] = Live(writer)
        live.sent = {data for data in CHUNKS if not self.missing(writer, data)}

    def missing(self, writer: Writer, data: bytes) -> bool:
        return bool(len(writer.session._pins.missing(id_array(chunk_id(data)))))

    def pick(self, number: int) -> tuple[str, Live]:
        """One of the groups that are being backed up."""
        return sorted(self.live.items())[number % len(self.live)]

    @some_live
    @rule(number=picks, chunks=chunk_lists)
    def send(self, number: int, chunks: list[bytes]) -> None:
        _, live = self.pick(number)
        self.do(lambda: live.writer.send(*chunks))
        live.sent |= set(chunks)
        self.damaged -= set(chunks)

    @some_live
    @rule(number=picks, chunks=chunk_lists)
    def append(self, number: int, chunks: list[bytes]) -> None:
        _, live = self.pick(number)
        new = [data for data in chunks if data not in live.listed]
        records = b"".join(tree_record(chunk_id(data), len(data), KIND_DATA) for data in new)
        try:
            self.do(lambda: live.writer.session.append("etc.tree", len(live.listed), records))
        except RefusedError:
            assert not set(new) <= live.sent
            return
        assert set(new) <= live.sent
        live.listed += new

    @some_live
    @rule(number=picks)
    def commit(self, number: int) -> None:
        group, live = self.pick(number)
        writer, root = live.writer, b"root of snapshot %d" % len(self.committed)
        chunks = [*live.listed, root]

        async def finish() -> str:
            await writer.send(root)
            await writer.session.append("etc.tree", len(live.listed), tree_record(chunk_id(root), len(root), 1))
            await writer.close("etc.tree", chunks)
            request = writer.request()
            result = await writer.session.commit(request)
            assert await writer.session.commit(request) == result
            assert await self.datastore.sessions.commit(writer.session.session_id, self.auth(writer), request) == result
            return result.snapshot

        refused: IbsError | None = None
        try:
            name = self.do(finish)
        except (ChunkNotFound, CorruptChunk) as error:
            refused = error
        if refused is not None:
            assert refused.details["chunk"] in {chunk_id(data).hex() for data in self.damaged}
            self.do(lambda: writer.session.abort("damaged meanwhile"))
            event("commit refused for a damaged chunk")
        else:
            assert name not in self.committed
            assert not self.damaged & set(chunks)
            self.committed[name] = chunks
            self.owner.setdefault(group, self.auth(writer))
            opened = writer.session.opened
            event(f"committed, resumed {opened.resumed_chunks > 0}, base {opened.bases != []}")
        del self.live[group]

    def auth(self, writer: Writer) -> str:
        return writer.session.facts.auth_id

    @some_live
    @rule(number=picks)
    def abort(self, number: int) -> None:
        group, live = self.pick(number)
        del self.live[group]
        self.do(lambda: live.writer.session.abort("the user"))

    @precondition(lambda self: len(self.live) < len(GROUPS))
    @rule(chunks=chunk_lists, base=st.booleans())
    def whole_backup(self, chunks: list[bytes], base: bool) -> None:
        group = next(group for group in GROUPS if group not in self.live)
        self.open(group, self.owner.get(group, OWNER), base)
        number = sorted(self.live).index(group)
        self.send(number, chunks)
        self.append(number, chunks)
        self.commit(number)

    @precondition(lambda self: len(self.live) < len(GROUPS))
    @rule(chunks=chunk_lists, kill=st.booleans())
    def half_backup(self, chunks: list[bytes], kill: bool) -> None:
        group = next(group for group in GROUPS if group not in self.live)
        self.open(group, self.owner.get(group, OWNER), True)
        number = sorted(self.live).index(group)
        self.send(number, chunks)
        self.restart(False) if kill else self.abort(number)

    # --- the world ---

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        lost = list(self.live.values())
        if clean:
            self.do(lambda: self.datastore.close("restart"))
            self.datastore = self.do(self.box.open)
        else:
            self.datastore = self.do(lambda: self.box.kill(self.datastore))
        for live in lost:
            try:
                self.datastore.sessions.get(live.writer.session.session_id, self.auth(live.writer))
                raise AssertionError("a session survived its server")
            except SessionLost:
                continue
        self.live.clear()

    @rule(seconds=st.sampled_from([1, 30, 200, limits.INTERRUPTED_SESSION_KEEP_SECONDS + 1]))
    def time_passes(self, seconds: int) -> None:
        self.box.clock.advance(seconds)
        self.do(self.datastore.expire)
        for group, live in list(self.live.items()):
            if live.writer.session.state is SessionState.INTERRUPTED:
                assert seconds > limits.SESSION_IDLE_SECONDS_MAX
                del self.live[group]
            else:
                self.do(live.writer.session.resumed_ids)  # a sign of life

    @rule()
    def clean_up(self) -> None:
        self.do(self.datastore.cleanup)
        held = {info.address for info in self.datastore.store.iterate()}
        needed = {address_of(data) for chunks in self.committed.values() for data in chunks}
        if not self.live:
            assert held <= needed
            assert self.datastore.store.staging.names() == []

    @precondition(lambda self: self.committed)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """A chunk is found bad: its snapshots have lost it until somebody sends it again."""
        name = data.draw(st.sampled_from(sorted(self.committed)))
        victim = data.draw(st.sampled_from(self.committed[name]))
        self.datastore.store.mark_bad(address_of(victim))
        self.damaged.add(victim)
        event("damaged")

    # --- promises ---

    @invariant()
    def what_was_acknowledged_is_there_and_nothing_else(self) -> None:
        if not hasattr(self, "datastore"):
            return
        assert sorted(str(name) for name in self.do(self.datastore.snapshots.every)) == sorted(self.committed)

    @invariant()
    def nothing_is_forgotten(self) -> None:
        if hasattr(self, "datastore"):
            assert self.do(self.datastore.find_unreferenced) == []

    @rule()
    def every_snapshot_reads_back(self) -> None:
        for name, chunks in self.committed.items():
            if self.damaged & set(chunks):
                try:
                    self.do(lambda name=name: read(self.datastore, name, "etc.tree"))
                    raise AssertionError("bad bytes were given out")
                except IbsError:
                    continue
            assert self.do(lambda name=name: read(self.datastore, name, "etc.tree")) == chunks


SessionMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestSessions = SessionMachine.TestCase
