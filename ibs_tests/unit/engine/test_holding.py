"""Holding a datastore to a mode: in force though it cannot be noted, not loosened before it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.core.modes import Quarantine
from ibs.engine import holding
from ibs.engine.modes import ModeRecord, Use
from ibs.errors import DatastoreOffline, IbsError
from ibs_tests.support.engine import STORE_UUID, Box, start

QUARANTINED = ModeRecord(quarantine=Quarantine(reason="x", since="2026-11-22T19:00:00Z", by="root@ibs"))


async def test_what_cannot_be_noted_holds_all_the_same(tmp_path: Path) -> None:
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    (tmp_path / "s/.ibs/mode.json").mkdir()
    warning = await holding.tighten(datastore, QUARANTINED)
    assert "could not be noted in the store" in warning
    assert not datastore.context.modes.allows(Use.WRITE)
    with pytest.raises(IbsError):
        await holding.loosen(datastore, ModeRecord())
    assert not datastore.context.modes.allows(Use.WRITE)
    box.close()


async def test_a_store_that_is_gone_tells_no_mode(tmp_path: Path) -> None:
    with pytest.raises(DatastoreOffline, match="path does not exist"):
        holding.peek(str(tmp_path / "nowhere"), STORE_UUID, "s1", "now")


async def test_what_is_under_way_in_words(tmp_path: Path) -> None:
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    await start(datastore)
    assert holding.under_way(datastore) == []
    datastore.context.modes.set(QUARANTINED)
    assert holding.under_way(datastore) == ["1 backup"]
    assert not await holding.drain(datastore, 0, lambda _: None)
    await holding.end_forbidden(datastore, "because")
    assert await holding.drain(datastore, 0, lambda _: None)
    box.close()
