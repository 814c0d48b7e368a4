from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.ports.chunkstore import PLAIN_DOMAIN, Address, ChunkState
from ibs.storage.local.chunkdb import ChunkDb, RowState
from ibs.storage.local.gate import Gate
from ibs.storage.local.ledger import Ledger, Received


def address(number: int) -> Address:
    return Address(PLAIN_DOMAIN, number.to_bytes(32, "big"))


def entry(number: int, *, heals: bool = False) -> Received:
    return Received(address(number), address(number).id.hex(), 100, heals)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[ChunkDb]:
    db = ChunkDb(str(tmp_path / "chunks.db"))
    yield db
    db.close()


@pytest.fixture
def ledger(db: ChunkDb) -> Ledger:
    return Ledger(db, Gate("main"), 3)


def test_an_entry_is_dropped_or_recorded_by_identity(ledger: Ledger) -> None:
    old, new = entry(1), entry(1)
    ledger.add(old)
    ledger.add(new)
    ledger.drop(old)
    assert ledger.received(address(1)) is new
    assert ledger.record([old]) == 0
    assert ledger.record([new]) == 1
    assert ledger.received(address(1)) is None
    assert ledger.info([address(1)])[0].state is ChunkState.DURABLE


def test_unavailable_is_the_same_object_until_something_changes(ledger: Ledger) -> None:
    ledger.mark(address(1), RowState.MISSING)
    first = ledger.unavailable()
    assert first == {address(1)}
    ledger.add(entry(2))
    assert ledger.unavailable() is first
    healing = entry(1, heals=True)
    ledger.add(healing)
    assert ledger.unavailable() == frozenset()
    ledger.drop(healing)
    assert ledger.unavailable() == {address(1)}, "a new body that was lost heals nothing"
    ledger.add(healing)
    ledger.record([healing])
    assert ledger.unavailable() == frozenset()


def test_a_new_body_heals_a_suspect_received_one(ledger: Ledger) -> None:
    suspect = entry(1)
    ledger.add(suspect)
    ledger.mark_received_suspect(suspect)
    assert ledger.unavailable() == {address(1)}
    ledger.add(entry(1))
    assert ledger.unavailable() == frozenset()


def test_marks_are_read_back_from_the_index(db: ChunkDb, ledger: Ledger) -> None:
    for number, state in enumerate((RowState.BAD, RowState.SUSPECT, RowState.MISSING)):
        ledger.mark(address(number), state)
    again = Ledger(db, Gate("main"), 4)
    assert again.unavailable() == {address(n) for n in range(3)}
    assert [again.mark_of(address(n)) for n in range(4)] == [RowState.BAD, RowState.SUSPECT, RowState.MISSING, None]
    again.forget([address(0)])
    again.unmark(address(2), 100)
    assert again.unavailable() == {address(1)}


def test_more_marks_than_memory_should_hold_stop_writing(db: ChunkDb, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        db.mark(address(number), RowState.MISSING, 1)
    monkeypatch.setattr("ibs.core.limits.STORE_MARKS_MAX", 3)
    gate = Gate("main")
    Ledger(db, gate, 3)
    assert "more than 3 chunks" in gate.read_only_reason


def test_counts_do_not_count_a_healing_chunk_twice(ledger: Ledger) -> None:
    first = entry(1)
    ledger.add(first)
    ledger.record([first])
    ledger.mark(address(1), RowState.SUSPECT)
    ledger.add(entry(1, heals=True))
    counts = ledger.counts()
    assert (counts.chunks, counts.stored_bytes, counts.received, counts.suspect) == (1, 100, 1, 1)


def test_bytes_that_wait_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibs.core.limits.STORE_RECEIVED_BYTES_MAX", 250)
    first = entry(1)
    ledger.add(first)
    ledger.add(entry(2))
    ledger.add(entry(2))
    assert not ledger.is_full()
    ledger.add(entry(3))
    assert ledger.is_full()
    ledger.record([first])
    assert not ledger.is_full()
    for number in range(10, 10 + 2):
        ledger.acknowledge(address(number))
    monkeypatch.setattr("ibs.core.limits.STORE_RECEIVED_CHUNKS_MAX", 4)
    assert ledger.is_full(), "acknowledgements wait for a barrier too"
    ledger.record([])
    assert not ledger.is_full()
    assert ledger.unrecorded() == 0


def test_a_received_chunk_marked_suspect_is_recorded_so(db: ChunkDb, ledger: Ledger) -> None:
    suspect = entry(1)
    ledger.add(suspect)
    ledger.mark_received_suspect(suspect)
    assert ledger.unavailable() == {address(1)}
    ledger.record([suspect])
    assert ledger.unavailable() == {address(1)}
    assert db.lookup([address(1)])[address(1)].state is RowState.SUSPECT
    assert [info.state for info in ledger.iterate("")] == [ChunkState.DURABLE]
