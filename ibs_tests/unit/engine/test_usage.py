"""What is one's own and what is shared, in one pass or many; growth, and the day when there is no room left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ibs.core import limits
from ibs.core.modes import Maintenance, Mode, ModeRecord
from ibs.engine.usage import fills_on, history, note_day, usage
from ibs.errors import UsageError
from ibs.wire.datastore import GrowthDay
from ibs_tests.support.engine import Box, address_of, backup

GIB = 1 << 30


@pytest.mark.parametrize("pass_chunks", [limits.USAGE_PASS_CHUNKS, 1])
async def test_own_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pass_chunks: int) -> None:
    monkeypatch.setattr(limits, "USAGE_PASS_CHUNKS", pass_chunks)
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    await backup(datastore, {"etc.tree": [b"mine" * 100, b"both" * 500]}, group="host/a")
    await backup(datastore, {"etc.tree": [b"mine" * 100, b"more" * 70]}, group="host/a")
    await backup(datastore, {"etc.tree": [b"both" * 500, b"else" * 30]}, group="host/b", namespace="x")
    sizes = {
        name: datastore.store.info([address_of(name * count)])[0].stored_bytes
        for name, count in ((b"mine", 100), (b"both", 500), (b"more", 70), (b"else", 30))
    }
    rows = {row.name: row for row in usage(datastore.context, "group")}
    assert set(rows) == {"host/a", "ns:x/host/b"}
    first, second = rows["host/a"], rows["ns:x/host/b"]
    assert (first.snapshots, first.shared_bytes) == (2, sizes[b"both"])
    assert first.unique_bytes == sizes[b"mine"] + sizes[b"more"]
    assert (second.unique_bytes, second.stored_bytes) == (sizes[b"else"], sizes[b"else"] + sizes[b"both"])
    assert first.plain_bytes == (400 + 2000) + (400 + 280)
    spaces = {row.name: row.unique_bytes for row in usage(datastore.context, "namespace")}
    assert spaces == {"/": first.unique_bytes, "x": second.unique_bytes}
    box.chunk_path(address_of(b"both" * 500)).unlink()
    (tmp_path / "s/ns/host/a").rename(tmp_path / "gone")
    assert [row.name for row in usage(datastore.context, "group")] == ["ns:x/host/b"]
    with pytest.raises(UsageError, match="by 'owner' are not kept"):
        usage(datastore.context, "owner")
    box.close()


async def test_an_empty_datastore_has_no_rows(tmp_path: Path) -> None:
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    assert await datastore.usage("group") == []
    box.close()


async def test_one_sample_a_day_is_kept_in_the_store(tmp_path: Path) -> None:
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    for _ in range(3):
        await datastore.stats()
        await datastore.expire()
        box.clock.advance(86_400)
    assert len(history(datastore.context)) == 3
    assert (tmp_path / "s/.ibs/history.json").exists()
    kept = Maintenance(mode=Mode.READ_ONLY, reason="", since="now", by="me")
    datastore.context.modes.set(ModeRecord(maintenance=kept))
    assert len(note_day(datastore.context)) == 4
    assert len(history(datastore.context)) == 3
    (tmp_path / "s/.ibs/history.json").write_bytes(b"{torn")
    assert history(datastore.context) == []
    box.close()


def days(*free: int) -> list[GrowthDay]:
    return [
        GrowthDay(day=f"2026-11-{number + 1:02}", chunks=1, chunk_bytes=1, free_bytes=one)
        for number, one in enumerate(free)
    ]


def test_the_day_it_is_full_is_foretold() -> None:
    assert fills_on(days(*(GIB * (100 - number) for number in range(10)))) == (GIB, "2027-02-09")
    assert fills_on(days(100, 90)) == (0, "")
    assert fills_on(days(*range(100, 110))) == (0, "")
    assert fills_on(days(*(GIB * GIB - number for number in range(10))))[1] == ""
    assert np.isfinite(fills_on(days(5, 5, 5))[0])
