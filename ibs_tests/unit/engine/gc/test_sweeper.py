from __future__ import annotations

import errno

import pytest

from ibs.core import limits
from ibs.core.marking import prefixes_of
from ibs.core.modes import ModeRecord, Quarantine
from ibs.engine.datastore import Datastore
from ibs.engine.gc.sweeper import Sweeper
from ibs.engine.session.journal import id_array
from ibs.engine.session.pins import WideWatch
from ibs.errors import Quarantined
from ibs.ports.chunkstore import Retired
from ibs.storage.wrap.faults import Plan
from ibs_tests.support.engine import Box, address_of, start

CHUNKS = [b"a", b"b", b"c"]
ADDRESSES = sorted((address_of(data) for data in CHUNKS), key=lambda address: address.id)
PREFIXES = prefixes_of(id_array(b"".join(address.id for address in ADDRESSES)))


async def sweeper_of(datastore: Datastore, watch: WideWatch, *, keep: bool = True) -> Sweeper:
    writer = await start(datastore)
    await writer.send(*CHUNKS)
    datastore.store.barrier()
    return Sweeper(datastore.context, watch, datastore.store.raise_epoch(), keep)


def total(sweeper: Sweeper) -> Retired:
    candidates, done = sweeper.candidates(PREFIXES), Retired()
    while (some := sweeper.sweep(candidates)) is not None:
        done += some
    return done


async def test_candidates_come_in_order_of_their_ids(datastore: Datastore) -> None:
    with datastore.context.gate.watching_all() as watch:
        sweeper = await sweeper_of(datastore, watch)
        assert list(sweeper.candidates(PREFIXES)) == ADDRESSES
        assert list(sweeper.candidates(PREFIXES[1:2])) == ADDRESSES[1:2]


async def test_what_was_announced_since_is_spared(datastore: Datastore) -> None:
    with datastore.context.gate.watching_all() as watch:
        sweeper = await sweeper_of(datastore, watch)
        # The session's own announcements came inside the watch: all is spared.
        assert total(sweeper) == Retired()
    with datastore.context.gate.watching_all() as watch:
        sweeper.watch = watch
        datastore.context.gate.announce(bytes(32), id_array(ADDRESSES[1].id))
        assert total(sweeper).chunks == 2
        assert [info.state.value for info in datastore.store.info(ADDRESSES)] == ["retired", "durable", "retired"]


async def test_a_disk_without_room_for_trash_gets_none(datastore: Datastore) -> None:
    with datastore.context.gate.watching_all():
        sweeper = await sweeper_of(datastore, WideWatch())
    with datastore.context.gate.watching_all() as watch:
        sweeper.watch = watch
        datastore.store._held.hook = Plan().fail("retire.file", errno.ENOSPC, times=100)
        done = total(sweeper)
        assert (done.chunks, done.freed_chunks, sweeper.keep) == (0, 3, False)


async def test_the_grace_of_a_slow_run_counts_from_its_last_batch(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GC_BATCH_CHUNKS", 1)
    sweeper = await sweeper_of(datastore, WideWatch())
    with datastore.context.gate.watching_all() as watch:
        sweeper.watch = watch
        candidates = sweeper.candidates(PREFIXES)
        sweeper.sweep(candidates)
        box.clock.advance(limits.GC_TRASH_GRACE_SECONDS)  # somebody holds the run
        sweeper.sweep(candidates)
    assert [one.since for one in datastore.store.trash()] == [datastore.context.time.now()]


async def test_an_error_loses_no_candidate(datastore: Datastore) -> None:
    sweeper = await sweeper_of(datastore, WideWatch())
    with datastore.context.gate.watching_all() as watch:
        sweeper.watch = watch
        candidates = sweeper.candidates(PREFIXES)
        datastore.context.modes.set(ModeRecord(quarantine=Quarantine(reason="", since="", by="")))
        with pytest.raises(Quarantined):
            sweeper.sweep(candidates)
        datastore.context.modes.set(ModeRecord())
        first = sweeper.sweep(candidates)
        assert first is not None
        assert first.chunks == 3
