"""The local store against a model, through any sequence of calls, rot, orderly stops and crashes."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ibs.errors import ChunkNotFound, CorruptChunk
from ibs.ports.chunkstore import ChunkState, PutOutcome
from ibs.storage.local.layout import chunk_name
from ibs_tests.support.stores import KEYS, StoreBox, flip, make_blob, publish

BODIES = [[make_blob(n, 200 + n), make_blob(n, 200 + n)] for n in range(3)]
BODIES += [[make_blob(n, 200 + n, keys=KEYS), make_blob(n, 200 + n, keys=KEYS)] for n in range(3)]
CHUNKS = st.integers(0, len(BODIES) - 1)


@dataclass
class Chunk:
    """What the model knows of one address: the bytes in each place; `mark` is that of the durable ones."""

    durable: bytes | None = None
    mark: str = ""
    bad_file: bool = False
    received: bytes | None = None
    received_suspect: bool = False

    @property
    def state(self) -> ChunkState:
        if self.received is not None:
            return ChunkState.RECEIVED
        if self.mark == "bad":
            return ChunkState.BAD
        if self.mark == "missing" or self.durable is None:
            return ChunkState.ABSENT
        return ChunkState.DURABLE

    @property
    def unavailable(self) -> bool:
        return self.received_suspect if self.received is not None else bool(self.mark)

    def promote(self, *, forget_suspicion: bool = False) -> None:
        if self.received is not None:
            suspect = self.received_suspect and not forget_suspicion
            self.durable, self.mark, self.bad_file = self.received, "suspect" if suspect else "", False
            self.drop()

    def drop(self) -> None:
        self.received, self.received_suspect = None, False

    def go_bad(self) -> None:
        self.bad_file = self.bad_file or self.durable is not None or self.received is not None
        self.durable, self.mark = None, "bad"
        self.drop()


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.box = StoreBox(self.folder / "store").create()
        self.model = [Chunk() for _ in BODIES]
        self.published: set[str] = set()
        self.whole = True
        self.open()

    def open(self) -> None:
        # The flush itself is not under test here; what it decides is.
        self.store = self.box.open(flush_whole=self.whole, flush=lambda _fd: None)

    def teardown(self) -> None:
        self.box.close()
        shutil.rmtree(self.folder)

    @initialize(whole=st.booleans())
    def choose_flush(self, whole: bool) -> None:
        self.store.close()
        self.whole = whole
        self.open()

    # --- calls ---

    @rule(n=CHUNKS, body=st.integers(0, 1))
    def put(self, n: int, body: int) -> None:
        chunk, (address, blob) = self.model[n], BODIES[n][body]
        if chunk.received is not None and not chunk.received_suspect:
            wanted = PutOutcome.DUPLICATE
        elif chunk.received is not None or chunk.mark:
            wanted = PutOutcome.REPLACED
        else:
            wanted = PutOutcome.DUPLICATE if chunk.durable is not None else PutOutcome.STORED
        assert self.store.put(address, blob) is wanted
        if wanted is not PutOutcome.DUPLICATE:
            chunk.received, chunk.received_suspect = blob, False

    @rule(n=CHUNKS)
    def get(self, n: int) -> None:
        chunk, address = self.model[n], BODIES[n][0][0]
        if chunk.received is not None:
            assert self.store.get(address) == chunk.received
        elif chunk.mark == "bad":
            with pytest.raises(CorruptChunk):
                self.store.get(address)
        elif chunk.durable is not None:
            assert self.store.get(address) == chunk.durable
        else:
            with pytest.raises(ChunkNotFound):
                self.store.get(address)
            chunk.mark = "missing"

    @rule()
    def barrier(self) -> None:
        waiting = [chunk for chunk in self.model if chunk.received is not None]
        assert self.store.barrier() == len(waiting)
        for chunk in waiting:
            chunk.promote()

    @rule(n=CHUNKS)
    def mark_bad(self, n: int) -> None:
        self.store.mark_bad(BODIES[n][0][0])
        self.model[n].go_bad()

    @rule(n=CHUNKS)
    def mark_suspect(self, n: int) -> None:
        chunk = self.model[n]
        self.store.mark_suspect(BODIES[n][0][0])
        if chunk.received is not None:
            chunk.received_suspect = True
        elif chunk.durable is not None and not chunk.mark:
            chunk.mark = "suspect"

    @rule(ns=st.sets(CHUNKS, max_size=3))
    def discard(self, ns: set[int]) -> None:
        self.store.discard([BODIES[n][0][0] for n in sorted(ns)])
        for n in ns:
            self.model[n] = Chunk()

    @rule(day=st.integers(1, 28))
    def publish(self, day: int) -> None:
        folder = f"host/web01/2026-11-{day:02}T00:00:00Z"
        if folder in self.published:
            return
        publish(self.store, folder, a__blob=b"x")
        self.published.add(folder)
        for chunk in self.model:
            chunk.promote()

    # --- what happens to a disk ---

    @rule(n=CHUNKS, at=st.integers(0, 300))
    def rot(self, n: int, at: int) -> None:
        chunk, address = self.model[n], BODIES[n][0][0]
        if chunk.received is not None or chunk.durable is None:
            return
        flip(self.box.chunk_path(address), at % len(chunk.durable))
        with pytest.raises(CorruptChunk):
            self.store.get(address)
        chunk.go_bad()

    @rule(n=CHUNKS)
    def vanish(self, n: int) -> None:
        chunk, address = self.model[n], BODIES[n][0][0]
        if chunk.received is not None or chunk.durable is None:
            return
        self.box.chunk_path(address).unlink()
        with pytest.raises(ChunkNotFound):
            self.store.get(address)
        chunk.durable, chunk.mark = None, "missing"

    # --- stops ---

    @rule()
    def stop_orderly(self) -> None:
        self.store.close()
        self.open()
        assert self.store.recovered.clean
        for chunk in self.model:
            chunk.promote()

    @rule(torn=st.sets(CHUNKS), size=st.integers(0, 300))
    def crash(self, torn: set[int], size: int) -> None:
        self.store.close(clean=False)
        paths = {path.name: path for path in self.box.incoming()}
        for n, chunk in enumerate(self.model):
            if chunk.received is None:
                continue
            if n in torn:
                path = paths[chunk_name(BODIES[n][0][0])]
                if size < len(chunk.received):
                    os.truncate(path, size)
                else:
                    flip(path)
                chunk.drop()
            chunk.promote(forget_suspicion=True)
        for chunk in self.model:
            if chunk.mark == "bad" and not chunk.bad_file:
                chunk.mark = "missing"
        self.open()
        assert not self.store.recovered.clean

    @precondition(lambda self: any(chunk.received for chunk in self.model))
    @rule()
    def crash_with_everything_whole(self) -> None:
        self.crash(set(), 0)

    # --- what must always hold ---

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        infos = self.store.info([bodies[0][0] for bodies in BODIES])
        assert [info.state for info in infos] == [chunk.state for chunk in self.model]
        listed = {info.address: info.state for info in self.store.iterate()}
        assert listed == {info.address: info.state for info in infos if info.state is not ChunkState.ABSENT}
        wanted = {bodies[0][0] for bodies, chunk in zip(BODIES, self.model, strict=True) if chunk.unavailable}
        assert self.store.unavailable() == wanted

    @invariant()
    def the_disk_holds_what_the_model_holds(self) -> None:
        for bodies, chunk in zip(BODIES, self.model, strict=True):
            path = self.box.chunk_path(bodies[0][0])
            assert (path.read_bytes() if path.exists() else None) == chunk.durable
        received = {chunk_name(b[0][0]) for b, chunk in zip(BODIES, self.model, strict=True) if chunk.received}
        assert {path.name for path in self.box.incoming()} == received

    @invariant()
    def counts_add_up(self) -> None:
        counts = self.store.counts()
        assert counts.received == sum(chunk.received is not None for chunk in self.model)
        assert counts.stored_bytes >= sum(len(c.durable) for c in self.model if c.durable and c.received is None)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
