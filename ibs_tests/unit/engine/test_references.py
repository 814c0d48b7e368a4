"""What keeps chunks alive, and in which order it is read."""

from __future__ import annotations

import pytest

from ibs.core.ids import chunk_id
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.references import facts_of, journal_of, of_snapshot, protected_ids
from ibs.errors import FormatError, NotFoundError
from ibs.wire.reader import ReaderOpen
from ibs_tests.support.engine import OWNER, backup, start


async def test_promises_are_read_before_manifests(datastore: Datastore) -> None:
    """What moves from a session to a snapshot meanwhile is then seen at least once."""
    result = await backup(datastore, {"etc.tree": [b"a", b"meta"]})
    writer = await start(datastore)
    await writer.send(b"b")
    await datastore.readers.open(OWNER, ReaderOpen(snapshot=result.snapshot), everything=True)
    found = [(part.by, part.ids.tobytes()) for part in protected_ids(datastore.context)]
    assert [by.split("/")[0] for by, _ in found] == ["staging", "staging", ".ibs", "host"]
    both = chunk_id(b"a") + chunk_id(b"meta")
    assert [ids for _, ids in found] == [chunk_id(b"b"), both, both, both]
    skipped = list(protected_ids(datastore.context, skip=[writer.session.session_id]))
    assert len(skipped) == 2


async def test_a_torn_journal_gives_its_whole_ids(datastore: Datastore) -> None:
    folder = datastore.store.staging.create("d" * 32)
    assert len(journal_of(folder)) == 0
    folder.append("pins.journal", chunk_id(b"a") + b"half")
    assert journal_of(folder).tobytes() == chunk_id(b"a")
    assert facts_of(folder) is None
    (part,) = protected_ids(datastore.context)
    assert part.domain is None


async def test_a_removed_snapshot_refers_to_nothing(datastore: Datastore) -> None:
    result = await backup(datastore, {"etc.tree": [b"a", b"meta"]})
    name = SnapshotName.parse(result.snapshot)
    datastore.store.snapshots.remove(result.snapshot)
    assert list(of_snapshot(datastore.context, name)) == []


async def test_a_lost_index_is_an_error(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    result = await backup(datastore, {"etc.tree": [b"a", b"meta"]})

    def gone(*_: object) -> object:
        raise NotFoundError("gone")

    monkeypatch.setattr("ibs.engine.references.snapshot_index", gone)
    with pytest.raises(FormatError, match="has lost the index of"):
        list(of_snapshot(datastore.context, SnapshotName.parse(result.snapshot)))
