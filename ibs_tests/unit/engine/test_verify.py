"""Verification: results, levels of proof, whom a bad chunk hurts, and what is never called corrupt."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from ibs.core import limits, manifest
from ibs.core.blob import HEADER_BYTES, BlobEncoder
from ibs.core.ids import Address, chunk_id
from ibs.core.keys import DataKeys
from ibs.core.modes import Maintenance, Mode, ModeRecord, Quarantine
from ibs.core.names import SnapshotName, format_time
from ibs.engine.affected import damage, find_affected
from ibs.engine.datastore import Datastore
from ibs.engine.namedchunks import NamedChunks
from ibs.engine.verify import VerifyProgress, VerifyRun, verify_snapshot
from ibs.errors import CorruptChunk, DatastoreOffline, NotFoundError
from ibs.runtime.clock import ManualClock
from ibs.runtime.pool import ThreadPool
from ibs_tests.support.engine import Box, address_of, backup, key_registry, snapshot_of, start

KEYS = DataKeys.from_root(b"\7" * 32)
CONTENT = {"etc.tree": [b"data", b"meta"], "disk.img": [b"block", b"", b"block"]}
ALL = ["presence", "stored digest", "content id", "signature"]


async def verify(datastore: Datastore, name: object, **options: object):  # type: ignore[no-untyped-def]
    return await verify_snapshot(datastore, SnapshotName.parse(str(name)), **options)  # type: ignore[arg-type]


async def test_a_good_snapshot(box: Box, datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT)
    report = await verify(datastore, "host/web01", upid="UPID:9")
    assert (report.snapshot, report.result, report.chunks, report.proof) == (result.snapshot, "OK", 3, ALL)
    assert report.bytes == sum(info.stored_bytes for info in datastore.store.iterate())
    assert (report.first_failure, report.bad_chunks, report.affected) == ("", [], [])
    state = (await datastore.snapshots.load(snapshot_of(result))).state.verify
    assert state is not None
    assert (state.result, state.chunks, state.upid) == ("OK", 3, "UPID:9")
    assert datastore.store.leases.names() == []
    assert "verify.failed" not in box.kinds()
    when = box.clock.now_ns() // 1_000_000_000
    addresses = [info.address for info in datastore.store.iterate()]
    assert datastore.store.verified(addresses) == [when] * 3


async def test_encrypted_content_is_not_proven_without_the_key(box: Box) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    result = await backup(datastore, {"etc.tree": [b"data", b"meta"]}, keys=KEYS)
    report = await verify(datastore, result.snapshot)
    # A client's signature proves membership of the key, which the server does not vouch for.
    assert (report.result, report.proof) == ("OK", ["presence", "stored digest"])


async def test_a_corrupt_chunk_is_named_with_everybody_it_hurts(box: Box, datastore: Datastore) -> None:
    first = await backup(datastore, CONTENT)
    second = await backup(datastore, {"etc.tree": [b"data", b"other"]}, group="host/db01", namespace="x")
    await backup(datastore, {"etc.tree": [b"innocent"]}, group="host/ok")
    box.spoil(b"data")
    report = await verify(datastore, first.snapshot)
    assert report.result == "CORRUPT"
    for word in (chunk_id(b"data").hex(), first.snapshot, "etc.tree", "CORRUPT"):
        assert word in report.first_failure
    assert report.bad_chunks == [chunk_id(b"data").hex()]
    assert report.affected == [first.snapshot, second.snapshot]
    assert report.chunks == 3  # it went on to find all of them
    assert report.proof == ["signature"]
    assert "verify.failed" in box.kinds()
    assert (await datastore.snapshots.load(snapshot_of(first))).verify_failed
    assert (await start(datastore)).session.opened.bases == []


async def test_a_missing_chunk(box: Box, datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT)
    box.chunk_path(address_of(b"block")).unlink()
    report = await verify(datastore, result.snapshot)
    assert report.result == "MISSING"
    assert "chunk not found" in report.first_failure
    assert "disk.img" in report.first_failure
    box.spoil(b"meta")
    assert (await verify(datastore, result.snapshot)).result == "CORRUPT"  # the worse of the two


async def test_wrong_content_under_a_right_digest(box: Box, datastore: Datastore) -> None:
    """Whoever could write to the disk made a blob that is whole, with the id of another content."""
    result = await backup(datastore, CONTENT)
    lie = bytes(BlobEncoder().encode(b"lies", chunk_id(b"data")))
    box.chunk_path(address_of(b"data")).write_bytes(lie)
    assert len(lie) == HEADER_BYTES + 4
    report = await verify(datastore, result.snapshot)
    assert report.result == "CORRUPT"
    with pytest.raises(CorruptChunk):
        datastore.store.get(address_of(b"data"))  # it serves nobody any more


@pytest.mark.parametrize("file", ["manifest.json", "manifest.sig"])
async def test_a_changed_manifest_or_signature(box: Box, datastore: Datastore, file: str) -> None:
    result = await backup(datastore, CONTENT)
    path = Path(box.path) / "ns" / result.snapshot / file
    raw = path.read_bytes()
    changed = raw.replace(b"test 1", b"test 2") if file == "manifest.json" else b"{}"
    path.write_bytes(changed)
    report = await verify(datastore, result.snapshot)
    assert report.result == "CORRUPT"
    assert "signature" in report.first_failure or "manifest.sig" in report.first_failure
    assert "signature" not in report.proof


async def test_a_foreign_signer_is_no_proof(box: Box, datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT)
    folder = Path(box.path) / "ns" / result.snapshot
    forged = manifest.sign((folder / "manifest.json").read_bytes(), b"x" * 32, "server")
    (folder / "manifest.sig").write_bytes(manifest.encode_signature(forged))
    report = await verify(datastore, result.snapshot)
    assert (report.result, "signature" in report.proof) == ("OK", False)


@pytest.mark.parametrize(
    ("damage", "expected"), [("flip", "CORRUPT"), ("gone", "MISSING"), ("swap", "CORRUPT"), ("torn", "CORRUPT")]
)
async def test_a_damaged_index(box: Box, datastore: Datastore, damage: str, expected: str) -> None:
    result = await backup(datastore, CONTENT)
    other = await backup(datastore, {"etc.tree": [b"x", b"y"]}, group="host/db01")
    ns = Path(box.path) / "ns"
    path = ns / result.snapshot / "etc.tree.idx"
    raw = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "swap":
        path.write_bytes((ns / other.snapshot / "etc.tree.idx").read_bytes())
    elif damage == "torn":
        path.write_bytes(raw[:-1])
    else:
        raw[270] ^= 1
        path.write_bytes(raw)
    report = await verify(datastore, result.snapshot)
    assert (report.result, report.affected) == (expected, [])
    assert "etc.tree" in report.first_failure


@pytest.mark.parametrize(("damage", "expected"), [("gone", "MISSING"), ("flip", "CORRUPT")])
async def test_a_damaged_blob(box: Box, datastore: Datastore, damage: str, expected: str) -> None:
    writer = await start(datastore)
    await writer.archive("etc.tree", [b"meta"])
    await writer.put_blob("client.log", b"log")
    result = await writer.commit()
    path = Path(box.path) / "ns" / result.snapshot / "client.log"
    path.unlink() if damage == "gone" else path.write_bytes(b"lag")
    report = await verify(datastore, result.snapshot)
    assert (report.result, "client.log" in report.first_failure) == (expected, True)


async def test_what_is_not_there(datastore: Datastore) -> None:
    with pytest.raises(NotFoundError):
        await verify(datastore, "host/web01")


async def test_a_run_reads_each_chunk_once(box: Box, datastore: Datastore) -> None:
    names = [(await backup(datastore, CONTENT, group=f"host/h{number}")).snapshot for number in range(3)]
    run = VerifyRun()
    reports = [await verify(datastore, name, run=run) for name in names]
    assert [report.bytes > 0 for report in reports] == [True, False, False]
    assert [(report.chunks, report.result, report.proof) for report in reports] == [(3, "OK", ALL)] * 3
    box.spoil(b"data")
    run = VerifyRun()
    reports = [await verify(datastore, name, run=run) for name in names]
    assert [report.result for report in reports] == ["CORRUPT"] * 3


async def test_a_disk_that_cannot_be_read_says_nothing_about_the_data(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = await backup(datastore, CONTENT)

    def gone(addresses: object) -> bytes:
        raise DatastoreOffline("s1", "the disk is gone")

    monkeypatch.setattr(datastore.store, "check", gone)
    with pytest.raises(DatastoreOffline):
        await verify(datastore, result.snapshot)
    assert (await datastore.snapshots.load(snapshot_of(result))).state.verify is None
    assert datastore.readers.readers == []


async def test_progress_and_bounds(box: Box) -> None:
    box.pool = ThreadPool()
    datastore = await box.open()
    chunks = [bytes([number]) * 10 for number in range(50)]
    result = await backup(datastore, {"etc.tree": chunks})
    seen: list[VerifyProgress] = []

    async def progress(now: VerifyProgress) -> None:
        seen.append(now)

    await verify(datastore, result.snapshot, progress=progress)
    assert sorted(now.done for now in seen) == [now.done for now in seen]
    assert (seen[-1].done, seen[-1].total) == (50, 50)


async def test_cancellation_notes_nothing_and_keeps_no_lease(box: Box) -> None:
    box.pool = ThreadPool()
    datastore = await box.open()
    result = await backup(datastore, {"etc.tree": [number.to_bytes(8, "big") for number in range(400)]})
    with trio.CancelScope() as scope:

        async def progress(now: VerifyProgress) -> None:
            if now.done:
                scope.cancel()

        await verify(datastore, result.snapshot, progress=progress)
    assert scope.cancelled_caught
    assert (await datastore.snapshots.load(snapshot_of(result))).state.verify is None
    assert datastore.store.leases.names() == []


async def test_a_long_verification_keeps_its_lease(box: Box, datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT)

    async def progress(now: VerifyProgress) -> None:
        box.clock.advance(limits.READER_IDLE_SECONDS_MAX + 1)
        await datastore.expire()

    assert (await verify(datastore, result.snapshot, progress=progress)).result == "OK"


async def test_affected_by_domain(box: Box) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    await backup(datastore, {"etc.tree": [b"same", b"m1"]})
    secret = await backup(datastore, {"etc.tree": [b"same", b"m2"]}, keys=KEYS)
    bad = Address(KEYS.fingerprint, KEYS.chunk_id(b"same"))
    assert [str(name) for name in find_affected(datastore.context, [bad])] == [secret.snapshot]


def later_than_the_files(box: Box) -> int:
    """Set the clock after everything that was written until now; seconds since 1970."""
    box.clock.advance((datetime.now(UTC) - box.clock.now()).total_seconds() + 10)
    return box.clock.now_ns() // 1_000_000_000


async def test_a_pass_costs_new_and_old_enough_chunks_only(box: Box, datastore: Datastore) -> None:
    first = await backup(datastore, CONTENT)
    checked = later_than_the_files(box)
    assert (await verify(datastore, first.snapshot)).read == 3
    second = await backup(datastore, {"etc.tree": [b"data", b"new"]}, group="host/b")
    box.clock.advance(1000)
    report = await verify(datastore, second.snapshot, run=VerifyRun(since=checked))
    assert (report.chunks, report.read, report.result, report.proof) == (2, 1, "OK", ALL)
    assert report.oldest_check == format_time(datetime.fromtimestamp(checked, tz=UTC))
    again = await verify(datastore, first.snapshot, run=VerifyRun(since=checked + 1))
    assert (again.read, again.oldest_check) == (3, "")  # all of its checks are too old
    assert (await verify(datastore, first.snapshot)).read == 3


async def test_a_file_that_was_touched_or_went_is_read_again(box: Box, datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT)
    checked = later_than_the_files(box)
    await verify(datastore, result.snapshot)
    stamp = box.chunk_path(address_of(b"data")).stat()
    os.utime(box.chunk_path(address_of(b"data")), ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert (await verify(datastore, result.snapshot, run=VerifyRun(since=checked))).read == 0  # the clock runs ahead
    datastore.store.record_verified([address_of(b"data")], stamp.st_ctime_ns // 1_000_000_000 - 5)
    touched = await verify(datastore, result.snapshot, run=VerifyRun(since=0))
    assert touched.read == 1
    box.chunk_path(address_of(b"meta")).unlink()
    assert (await verify(datastore, result.snapshot, run=VerifyRun(since=checked))).result == "MISSING"


async def test_a_run_that_was_cut_short_was_not_in_vain(box: Box) -> None:
    box.pool = ThreadPool()
    datastore = await box.open()
    result = await backup(datastore, {"etc.tree": [number.to_bytes(8, "big") for number in range(400)]})
    since = later_than_the_files(box)
    with trio.CancelScope() as scope:

        async def progress(now: VerifyProgress) -> None:
            if now.done:
                scope.cancel()

        await verify(datastore, result.snapshot, progress=progress, run=VerifyRun(since=since))
    report = await verify(datastore, result.snapshot, run=VerifyRun(since=since))
    assert 0 < report.read < 400


async def test_everybody_who_is_hurt_is_marked_at_once(box: Box, datastore: Datastore) -> None:
    first = await backup(datastore, CONTENT)
    second = await backup(datastore, {"etc.tree": [b"data", b"other"]}, group="host/db01")
    box.spoil(b"data")
    report = await verify(datastore, first.snapshot, upid="UPID:7")
    assert sorted(report.affected) == sorted([first.snapshot, second.snapshot])
    state = (await datastore.snapshots.load(snapshot_of(second))).state.verify
    assert state is not None
    assert (state.result, state.upid, state.proof) == ("CORRUPT", "UPID:7", [])
    assert "found while another snapshot was verified" in state.first_failure
    found = await damage(datastore)
    assert [(row.chunk, row.result) for row in found.chunks] == [(chunk_id(b"data").hex(), "CORRUPT")]
    assert sorted(found.snapshots) == sorted([first.snapshot, second.snapshot])
    assert sorted(found.chunks[0].snapshots) == sorted(found.snapshots)


async def test_a_later_backup_heals_and_the_next_verification_says_so(box: Box, datastore: Datastore) -> None:
    first = await backup(datastore, CONTENT)
    box.spoil(b"data")
    assert (await verify(datastore, first.snapshot)).result == "CORRUPT"
    healer = await backup(datastore, {"etc.tree": [b"data", b"later"]}, group="host/db01")
    assert (healer.healed_chunks, "datastore.healed" in box.kinds()) == (1, True)
    report = await verify(datastore, first.snapshot)
    assert (report.result, report.healed) == ("OK", True)
    assert not (await verify(datastore, first.snapshot)).healed
    assert (await damage(datastore)).chunks == []


async def test_the_pace_is_asked_for_what_was_read(datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT)
    asked: list[int] = []

    async def pace(count: int) -> None:
        asked.append(count)

    report = await verify(datastore, result.snapshot, run=VerifyRun(pace=pace))
    assert sum(asked) == report.bytes > 0


async def test_what_memory_forgets_the_ledger_knows(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [(await backup(datastore, CONTENT, group=f"host/h{number}")).snapshot for number in range(2)]
    monkeypatch.setattr(limits, "VERIFY_SEEN_IDS_MAX", 0)
    run = VerifyRun(since=later_than_the_files(box))
    assert [(await verify(datastore, name, run=run)).read for name in names] == [3, 0]


async def test_a_quarantined_datastore_is_verified_and_an_offline_one_is_not(datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT)
    datastore.context.modes.set(ModeRecord(quarantine=Quarantine(reason="x", since="now", by="me")))
    assert (await verify(datastore, result.snapshot)).result == "OK"
    datastore.context.modes.set(
        ModeRecord(maintenance=Maintenance(mode=Mode.OFFLINE, reason="x", since="now", by="me"))
    )
    with pytest.raises(DatastoreOffline, match="in maintenance"):
        await verify(datastore, result.snapshot)


async def test_a_snapshot_that_goes_to_the_bin_and_comes_back_meanwhile_is_not_missing(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = snapshot_of(await backup(datastore, {"etc.tree": [b"a", b"meta"]}))
    opened, closed = datastore.readers.open, datastore.readers.close_reader

    async def forgotten(*args: Any, **options: Any) -> Any:
        reader = await opened(*args, **options)
        await datastore.bin.put(name, "alice@ibs")
        return reader

    async def undone(*args: Any) -> None:
        await closed(*args)
        await datastore.bin.undo(str(name))

    monkeypatch.setattr(datastore.readers, "open", forgotten)
    monkeypatch.setattr(datastore.readers, "close_reader", undone)
    assert (await verify_snapshot(datastore, name)).result == "OK"


async def test_what_a_clock_that_ran_ahead_has_dated_is_read_again(box: Box, datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT)
    later_than_the_files(box)
    now = box.clock.now()
    box.clock.advance(3650 * 86_400)  # until somebody sets it right
    assert (await verify(datastore, result.snapshot)).read == 3
    path = box.chunk_path(address_of(b"data"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    box.clock = ManualClock(now)
    datastore = await box.kill(datastore)
    since = int(now.timestamp()) - 30 * 86_400
    assert (await verify(datastore, result.snapshot, run=VerifyRun(since=since))).result == "CORRUPT"


async def test_a_store_that_lost_everything_is_told_in_the_time_of_one_chunk(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = await backup(datastore, {"etc.tree": [number.to_bytes(8, "big") for number in range(300)]})
    for path in Path(box.path).glob("chunks/????/*"):
        path.unlink()
    sought: list[Address] = []
    real = NamedChunks.archive_of

    def counted(self: NamedChunks, address: Address) -> str:
        sought.append(address)
        return real(self, address)

    monkeypatch.setattr(NamedChunks, "archive_of", counted)
    report = await verify(datastore, result.snapshot)
    assert (report.result, report.chunks, len(sought)) == ("MISSING", 300, 1)
    assert "archive etc.tree" in report.first_failure


async def test_what_was_healed_while_the_run_went_on_is_not_called_bad(box: Box, datastore: Datastore) -> None:
    first = await backup(datastore, {"etc.tree": [b"data", b"meta"]})
    other = await backup(datastore, {"etc.tree": [b"data", b"m2"]}, group="host/b")
    box.spoil(b"data")
    run = VerifyRun()
    assert (await verify(datastore, first.snapshot, run=run)).result == "CORRUPT"
    assert (await verify(datastore, other.snapshot, run=run)).result == "CORRUPT"
    box.clock.advance(10)
    healing = await backup(datastore, {"etc.tree": [b"data", b"m3"]}, group="host/c")
    for name in (healing, other, first):
        report = await verify(datastore, name.snapshot, run=run)
        assert (report.result, report.bad_chunks, report.affected) == ("OK", [], [])
