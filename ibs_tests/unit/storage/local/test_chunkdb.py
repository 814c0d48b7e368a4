from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.ports.chunkstore import PLAIN_DOMAIN, Address
from ibs.storage.local import chunkdb
from ibs.storage.local.chunkdb import ChunkDb, Found, RowState

KEY = bytes(range(32))


def address(number: int, domain: bytes = PLAIN_DOMAIN) -> Address:
    return Address(domain, number.to_bytes(32, "big"))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "chunks.db")


@pytest.fixture
def db(path: str) -> Iterator[ChunkDb]:
    db = ChunkDb(path)
    yield db
    db.close()


def ok(*numbers: int) -> list[tuple[Address, int, RowState]]:
    return [(address(n), 100 + n, RowState.OK) for n in numbers]


def test_every_column_has_a_comment() -> None:
    tables = [chunkdb._TABLE, *chunkdb._SCHEMA]
    for table in tables:
        lines = [line for line in table.splitlines() if re.match(r"\s+[a-z_]+ +[A-Z]", line)]
        assert lines
        assert all("--" in line for line in lines), table


def test_rows_are_found_by_domain_and_id_and_survive_reopening(path: str) -> None:
    db = ChunkDb(path)
    db.add([*ok(1, 2), (address(1, KEY), 300, RowState.SUSPECT)], 5)
    db.set_generation(7)
    db.close()
    db = ChunkDb(path)
    try:
        rows = db.lookup([address(1), address(1, KEY), address(9)])
        assert rows[address(1)] == (address(1), 101, 5, None, RowState.OK)
        assert rows[address(1, KEY)].state is RowState.SUSPECT
        assert address(9) not in rows
        assert db.generation == 7
        assert db.domains() == [PLAIN_DOMAIN, KEY]
    finally:
        db.close()


def test_many_rows_are_looked_up_in_batches(db: ChunkDb) -> None:
    db.add(ok(*range(2000)), 1)
    assert len(db.lookup(address(n) for n in range(3000))) == 2000


def test_epochs_never_decrease(db: ChunkDb) -> None:
    db.add(ok(1), 9)
    db.add(ok(1), 4)
    db.acknowledge([address(1)], 3)
    assert db.lookup([address(1)])[address(1)].epoch == 9
    db.acknowledge([address(1), address(2)], 12)
    assert db.lookup([address(1)])[address(1)].epoch == 12
    assert db.lookup([address(2)]) == {}


def test_totals_follow_every_change(db: ChunkDb) -> None:
    db.add(ok(1, 2, 3), 1)
    db.add([(address(1), 500, RowState.OK)], 1)
    db.mark(address(2), RowState.BAD, 1)
    db.mark(address(8), RowState.MISSING, 1)
    db.remove([address(3), address(99)])
    totals = db.totals()
    assert totals.chunks == {
        RowState.OK: 1,
        RowState.BAD: 1,
        RowState.SUSPECT: 0,
        RowState.MISSING: 1,
        RowState.RETIRED: 0,
    }
    assert totals.stored_bytes[RowState.OK] == 500
    assert totals.stored_bytes[RowState.BAD] == 102


def test_marks_are_listed(db: ChunkDb) -> None:
    db.add(ok(1, 2, 3), 1)
    db.mark(address(2), RowState.SUSPECT, 1)
    assert [(row.address, row.state) for row in db.marked()] == [(address(2), RowState.SUSPECT)]


def test_a_renewed_row_forgets_when_it_was_verified(db: ChunkDb) -> None:
    db.add(ok(1), 1)
    db.record_verified([address(1)], 1000)
    assert db.lookup([address(1)])[address(1)].verified_at == 1000
    db.add(ok(1), 1)
    assert db.lookup([address(1)])[address(1)].verified_at is None


def test_iterate_pages_through_a_prefix(db: ChunkDb) -> None:
    ids = [bytes([n % 7]) + n.to_bytes(31, "big") for n in range(1500)]
    db.add([(Address(domain, i), 1, RowState.OK) for i in ids for domain in (PLAIN_DOMAIN, KEY)], 1)
    assert len(list(db.iterate())) == 3000
    assert [row.address.id for row in db.iterate("05")] == [i for i in sorted(ids) if i[0] == 5 for _ in range(2)]
    assert {row.address.id for row in db.iterate("0")} == set(ids)
    assert list(db.iterate("f")) == []
    assert [row.address.domain for row in db.iterate(ids[3].hex())] == [PLAIN_DOMAIN, KEY]


def test_a_rebuild_keeps_what_is_known_and_notices_what_is_lost(db: ChunkDb) -> None:
    db.add(ok(1, 2, 3, 4, 5), 3)
    db.record_verified([address(1)], 1000)
    for number, state in ((2, RowState.SUSPECT), (3, RowState.BAD), (4, RowState.SUSPECT), (7, RowState.MISSING)):
        db.mark(address(number), state, 3)
    found = [
        Found(address(1), 111),
        Found(address(2), 102),
        Found(address(3), 103),
        Found(address(4), 104, healed=True),
        Found(address(6), 106, bad=True),
        Found(address(8, KEY), 108),
    ]
    db.rebuild(found, 9)
    rows = db.lookup([*(address(n) for n in range(1, 8)), address(8, KEY)])
    assert {a.id[-1]: row.state for a, row in rows.items()} == {
        1: RowState.OK,
        2: RowState.SUSPECT,
        3: RowState.BAD,
        4: RowState.OK,
        5: RowState.MISSING,
        6: RowState.BAD,
        7: RowState.MISSING,
        8: RowState.OK,
    }
    assert rows[address(1)][1:4] == (111, 9, 1000)
    assert {row.epoch for row in rows.values()} == {9}
    assert db.totals().chunks[RowState.MISSING] == 2
    db.add(ok(20), 9)
    assert db.totals().chunks[RowState.OK] == 4, "the triggers are there after a rebuild"
    db.rebuild(found, 10)
    assert db.totals().chunks[RowState.MISSING] == 3


def test_a_failed_rebuild_changes_nothing(db: ChunkDb) -> None:
    db.add(ok(1), 1)

    def breaking() -> Iterator[Found]:
        yield Found(address(2, KEY), 5)
        raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        db.rebuild(breaking(), 2)
    assert [row.address for row in db.iterate()] == [address(1)]
    db.add([(address(3, KEY), 1, RowState.OK)], 1)
    assert db.lookup([address(3, KEY)])[address(3, KEY)].address.domain == KEY


def test_a_file_that_is_no_index_is_refused(path: str) -> None:
    Path(path).write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        ChunkDb(path)


def test_nobody_else_can_open_an_open_index(db: ChunkDb, path: str) -> None:
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        ChunkDb(path)


def test_retired_rows_keep_their_figures_and_their_proof_through_the_trash(db: ChunkDb) -> None:
    db.add(ok(1, 2, 3), 1)
    db.record_verified([address(1)], 77)
    db.retire([address(1)], [address(2)], 5)
    assert db.trash() == [(5, 1, 101)]
    assert [(row.address, row.epoch, row.state) for row in db.trashed(5)] == [(address(1), 5, RowState.RETIRED)]
    assert list(db.trashed(4)) == []
    assert list(db.marked()) == [], "there may be very many: they are not kept in memory"
    db.revive([address(1), address(3)], 6)
    rows = db.lookup([address(1), address(2), address(3)])
    assert (rows[address(1)].state, rows[address(1)].epoch, rows[address(1)].verified_at) == (RowState.OK, 6, 77)
    assert rows[address(3)].epoch == 1, "it was not retired"
    assert address(2) not in rows


def test_a_rebuilt_index_knows_the_trash_and_misses_no_retired_chunk(db: ChunkDb) -> None:
    db.add(ok(1, 2), 1)
    db.retire([address(1), address(2)], [], 3)
    db.rebuild([Found(address(2), 100, retired=3)], 7)
    rows = db.lookup([address(1), address(2)])
    assert (rows[address(2)].state, rows[address(2)].epoch) == (RowState.RETIRED, 3)
    assert address(1) not in rows


def test_columns_come_by_id_between_bounds(db: ChunkDb) -> None:
    db.add(ok(1, 2, 3), 1)
    every = [row[0] for batch in db.columns(bytes(32), b"\xff" * 32) for row in batch]
    assert every == sorted(address(n).id for n in (1, 2, 3))
    assert [row[0] for batch in db.columns(every[1], every[1]) for row in batch] == [every[1]]
