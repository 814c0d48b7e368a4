from __future__ import annotations

from pathlib import Path

from ibs.engine.datastore import Datastore
from ibs.engine.gc.record import GcRecord, RunRecord, read, write
from ibs.errors import NoSpace
from ibs_tests.support.engine import Box


async def test_what_was_written_is_read_and_damage_is_nothing(box: Box, datastore: Datastore) -> None:
    context = datastore.context
    assert read(context) == GcRecord()
    record = GcRecord(last=RunRecord(epoch=3, started="2026-11-23T01:00:00Z", result="OK", chunks=4))
    write(context, record)
    assert read(context) == record
    (Path(box.path) / ".ibs" / "gc.json").write_text('{"running": 7')
    assert read(context) == GcRecord()


async def test_a_disk_without_room_for_it_keeps_nobody_from_his_work(datastore: Datastore) -> None:
    class Full:
        def write(self, name: str, data: bytes) -> None:
            raise NoSpace("datastore s1", "bytes")

    datastore.store.records = Full()  # type: ignore[assignment]
    write(datastore.context, GcRecord())
