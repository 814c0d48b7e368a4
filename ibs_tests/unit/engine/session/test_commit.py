"""Commit: facts against the manifest, signatures, presence, publication, and the answer asked for twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ibs.core import manifest
from ibs.core.ids import digest, hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.core.manifest import ManifestArchive, ManifestBlob
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.session.facts import SessionState
from ibs.errors import (
    ChunkNotFound,
    ConflictError,
    CorruptChunk,
    FormatError,
    NoSpace,
    RefusedError,
    SessionLost,
    SignatureInvalid,
    UsageError,
)
from ibs.ports.chunkstore import Address, ChunkInfo
from ibs.storage.local import Options
from ibs.wire.session import CommitRequest
from ibs_tests.support.engine import OTHER, SEED, Box, Writer, address_of, backup, key_registry, read, start

KEYS = DataKeys.from_root(b"\7" * 32)
CONTENT = [b"data", b"meta"]


async def ready(datastore: Datastore, **options: Any) -> Writer:
    """A session with everything but its commit."""
    writer = await start(datastore, **options)
    await writer.archive("etc.tree", CONTENT)
    return writer


async def nothing_visible(datastore: Datastore) -> bool:
    return not await datastore.snapshots.every() and not await datastore.snapshots.group_views(
        SnapshotName.parse("host/web01").namespace
    )


# --- the manifest against the server's own facts ---

WRONG: dict[str, dict[str, Any]] = {
    "another datastore": {"datastore": "00000000-0000-4000-8000-000000000000"},
    "another group": {"snapshot": "host/db01/2026-01-01T00:00:00Z"},
    "another namespace": {"snapshot": "ns:a/host/web01/2026-01-01T00:00:00Z"},
    "another time": {"snapshot": "host/web01/2030-01-01T00:00:00Z"},
    "another sequence": {"sequence": 7},
    "another previous": {"previous": "ab" * 32},
    "another owner": {"owner": OTHER},
    "a source that it was not made from": {"source": "ab" * 32},
    "no archive": {"archives": ()},
    "an encryption that is none": {"mode": "signed"},
    "a blob that never came": {"blobs": (ManifestBlob(name="x", bytes=1, digest="00" * 32),)},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
async def test_a_manifest_that_says_something_else_is_refused(datastore: Datastore, changes: dict[str, Any]) -> None:
    writer = await ready(datastore)
    with pytest.raises((UsageError, RefusedError)):
        await writer.session.commit(writer.request(writer.manifest(**changes)))
    assert await nothing_visible(datastore)
    assert writer.session.state is SessionState.OPEN
    await writer.commit()  # the right one is taken afterwards


@pytest.mark.parametrize(
    "changes",
    [
        {"plain_bytes": 99},
        {"index_digest": "00" * 32},
        {"records": 3, "index_bytes": 256 + 120},
        {"name": "other.tree"},
    ],
)
async def test_wrong_figures_of_an_archive_are_refused(datastore: Datastore, changes: dict[str, Any]) -> None:
    writer = await ready(datastore)
    stated = writer.archives["etc.tree"]
    wrong = ManifestArchive(**({name: getattr(stated, name) for name in stated.__struct_fields__} | changes))
    with pytest.raises(UsageError):
        await writer.session.commit(writer.request(writer.manifest(archives=(wrong,))))
    assert await nothing_visible(datastore)


@pytest.mark.parametrize("text", ["", "{}", "[" * 10_000, '{"format": 1}', "\ud800", "x" * 5_000_000])
async def test_hostile_manifests_are_refused(datastore: Datastore, text: str) -> None:
    writer = await ready(datastore)
    with pytest.raises(FormatError):
        await writer.session.commit(CommitRequest(manifest=text))
    assert await nothing_visible(datastore)


async def test_an_archive_that_is_not_closed_cannot_be_stated(datastore: Datastore) -> None:
    writer = await start(datastore, "etc.tree", "disk.img")
    await writer.archive("etc.tree", CONTENT)
    await writer.archive("disk.img", [b"block"])
    unclosed = await start(datastore, "etc.tree", "disk.img", group="host/db01")
    await unclosed.archive("etc.tree", CONTENT)
    await unclosed.send(b"block")
    await unclosed.append("disk.img", [b"block"])
    archives = (unclosed.archives["etc.tree"], writer.archives["disk.img"])
    with pytest.raises(UsageError, match="archives"):
        await unclosed.session.commit(unclosed.request(unclosed.manifest(archives=archives)))


async def test_blobs_must_be_stated_as_they_came(datastore: Datastore) -> None:
    writer = await ready(datastore)
    await writer.put_blob("client.log", b"hello")
    with pytest.raises(UsageError, match="blobs"):
        await writer.session.commit(writer.request(writer.manifest(blobs=())))
    await writer.commit()


# --- signatures (PROTOCOLS 17) ---


async def test_the_server_signs_a_plain_manifest(datastore: Datastore) -> None:
    result = await backup(datastore, {"etc.tree": CONTENT})
    stored = await datastore.snapshots.load(SnapshotName.parse(result.snapshot))
    assert stored.signature.by == "server"
    manifest.verify(stored.manifest_bytes, stored.signature, signer=manifest.public_key(SEED))
    assert result.manifest_digest == digest(stored.manifest_bytes).hex()


async def test_a_registered_key_signs_and_is_checked(box: Box) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    writer = await start(datastore, keys=KEYS)
    await writer.archive("etc.tree", CONTENT)
    good = writer.request()
    for signature in ("", "AAAA", manifest.sign(b"other bytes", KEYS.signing_seed, "client").signature):
        with pytest.raises((RefusedError, SignatureInvalid)):
            await writer.session.commit(CommitRequest(manifest=good.manifest, signature=signature))
    foreign = manifest.sign(good.manifest.encode(), b"9" * 32, "client").signature
    with pytest.raises(SignatureInvalid):
        await writer.session.commit(CommitRequest(manifest=good.manifest, signature=foreign))
    result = await writer.session.commit(good)
    stored = await datastore.snapshots.load(SnapshotName.parse(result.snapshot))
    assert stored.signature.by == "client"
    assert await read(datastore, result.snapshot, "etc.tree", keys=KEYS) == CONTENT


async def test_an_encrypted_session_cannot_be_committed_as_plain(box: Box) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    writer = await start(datastore, keys=KEYS)
    await writer.archive("etc.tree", CONTENT)
    stated = writer.archives["etc.tree"]
    plain = ManifestArchive(
        **({name: getattr(stated, name) for name in stated.__struct_fields__} | {"key_fingerprint": ""})
    )
    with pytest.raises(UsageError, match="encryption"):
        await writer.session.commit(
            CommitRequest(
                manifest=manifest.encode(writer.manifest(mode="plain", key_fingerprint="", archives=(plain,))).decode()
            )
        )


async def test_a_plain_snapshot_can_be_signed_by_a_registered_key(box: Box) -> None:
    other = DataKeys.from_root(b"x" * 32)
    box.keys = key_registry(KEYS, other)
    datastore = await box.open()
    writer = await start(datastore, signing=KEYS)
    await writer.archive("etc.tree", CONTENT)
    for wrong in (other, DataKeys.from_root(b"y" * 32)):
        with pytest.raises((UsageError, SignatureInvalid)):
            await writer.session.commit(signed_request(writer, wrong))
    result = await writer.session.commit(signed_request(writer, KEYS))
    stored = await datastore.snapshots.load(SnapshotName.parse(result.snapshot))
    assert (stored.signature.by, stored.manifest.mode) == ("client", "signed")
    assert await read(datastore, result.snapshot, "etc.tree") == CONTENT


def signed_request(writer: Writer, keys: DataKeys) -> CommitRequest:
    stated = writer.manifest(mode="signed", key_fingerprint=hex_fingerprint(keys.fingerprint))
    raw = manifest.encode(stated)
    return CommitRequest(manifest=raw.decode(), signature=manifest.sign(raw, keys.signing_seed, "client").signature)


async def test_a_plain_session_cannot_claim_a_key(datastore: Datastore) -> None:
    writer = await ready(datastore)
    signature = manifest.sign(manifest.encode(writer.manifest()), KEYS.signing_seed, "client").signature
    with pytest.raises(RefusedError, match="not registered"):
        await writer.session.commit(CommitRequest(manifest=writer.request().manifest, signature=signature))
    signed = writer.manifest(mode="signed", key_fingerprint=hex_fingerprint(KEYS.fingerprint))
    with pytest.raises(RefusedError, match="must be signed"):
        await writer.session.commit(writer.request(signed))


# --- presence (P2) ---


async def test_a_chunk_that_went_missing_is_named(box: Box, datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": CONTENT})
    writer = await start(datastore)
    await writer.archive("etc.tree", CONTENT, send=False)
    box.chunk_path(address_of(b"data")).unlink()
    with pytest.raises(ChunkNotFound):
        datastore.store.get(address_of(b"data"))  # somebody notices
    with pytest.raises(ChunkNotFound, match=writer.id(b"data").hex()) as caught:
        await writer.commit()
    assert caught.value.details["archive"] == "etc.tree"
    assert len(await datastore.snapshots.every()) == 1
    await writer.send(b"data")
    result = await writer.commit()
    assert await read(datastore, result.snapshot, "etc.tree") == CONTENT


async def test_a_chunk_that_went_bad_is_named(box: Box, datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": CONTENT})
    writer = await start(datastore)
    await writer.archive("etc.tree", CONTENT, send=False)
    datastore.store.mark_bad(address_of(b"data"))
    with pytest.raises(CorruptChunk, match=writer.id(b"data").hex()):
        await writer.commit()
    await writer.send(b"data")
    await writer.commit()


async def test_a_chunk_that_left_no_trace_is_named(datastore: Datastore) -> None:
    writer = await ready(datastore)
    datastore.store.discard([address_of(b"data")])
    with pytest.raises(ChunkNotFound, match=writer.id(b"data").hex()):
        await writer.commit()
    assert await nothing_visible(datastore)


async def test_a_commit_looks_only_for_what_the_session_delivered(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backup(datastore, {"etc.tree": CONTENT})
    writer = await start(datastore)
    await writer.send(b"new")
    await writer.archive("etc.tree", [*CONTENT, b"new"], send=False)
    asked: list[Address] = []
    before = datastore.store.info

    def info(addresses: Sequence[Address]) -> list[ChunkInfo]:
        asked.extend(addresses)
        return before(addresses)

    monkeypatch.setattr(datastore.store, "info", info)
    await writer.commit()
    assert asked == [address_of(b"new")]


async def test_a_suspect_chunk_is_not_committed(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": CONTENT})
    writer = await start(datastore)
    await writer.archive("etc.tree", CONTENT, send=False)
    datastore.store.mark_suspect(address_of(b"meta"))
    with pytest.raises(CorruptChunk):
        await writer.commit()


# --- publication ---


async def test_the_first_writer_owns_the_group(datastore: Datastore) -> None:
    name = SnapshotName.parse("host/web01")
    await backup(datastore, {"etc.tree": CONTENT}, auth_id="alice@ibs!laptop")
    assert await datastore.snapshots.owner(name.namespace, name.group) == "alice@ibs!laptop"
    await backup(datastore, {"etc.tree": CONTENT}, auth_id="alice@ibs!laptop")


async def test_warnings_show_in_the_status(datastore: Datastore) -> None:
    writer = await ready(datastore)
    result = await writer.session.commit(writer.request(writer.manifest(warnings=2)))
    assert result.status == "WARNING"


async def test_sequence_and_previous_chain(datastore: Datastore) -> None:
    first = await backup(datastore, {"etc.tree": CONTENT})
    writer = await start(datastore)
    assert writer.session.opened.sequence == 2
    assert writer.session.opened.previous_manifest_digest == first.manifest_digest


async def test_commit_asked_again_gets_the_same_answer(datastore: Datastore) -> None:
    writer = await ready(datastore)
    request = writer.request()
    result = await writer.session.commit(request)
    assert await writer.session.commit(request) == result
    session_id, auth_id = writer.session.session_id, writer.session.facts.auth_id
    assert await datastore.sessions.commit(session_id, auth_id, request) == result
    with pytest.raises(ConflictError, match="another manifest"):
        await writer.session.commit(writer.request(writer.manifest(warnings=1)))
    assert len(await datastore.snapshots.every()) == 1


async def test_commit_asked_again_after_a_restart_finds_the_snapshot(box: Box, datastore: Datastore) -> None:
    writer = await ready(datastore)
    request = writer.request()
    result = await writer.session.commit(request)
    datastore = await box.kill(datastore)
    session_id = writer.session.session_id
    again = await datastore.sessions.commit(session_id, "alice@ibs", request)
    assert (again.snapshot, again.manifest_digest) == (result.snapshot, result.manifest_digest)
    with pytest.raises(SessionLost):
        await datastore.sessions.commit(session_id, OTHER, request)
    with pytest.raises(SessionLost):
        await datastore.sessions.commit(session_id, "alice@ibs", writer.request(writer.manifest(warnings=1)))
    with pytest.raises(SessionLost):
        await datastore.sessions.commit(session_id, "alice@ibs", CommitRequest(manifest="{}"))


POINTS = ("publish.index", "publish.sync", "publish.manifest.temp", "publish.manifest.rename", "barrier.promote")


@pytest.mark.parametrize("point", POINTS)
async def test_a_full_disk_leaves_nothing_visible_and_can_be_tried_again(box: Box, point: str) -> None:
    full = True

    def hook(at: str) -> None:
        if full and at == point:
            raise OSError(28, "No space left on device")

    box.options = Options(hook=hook)
    datastore = await box.open()
    writer = await ready(datastore)
    if point == "publish.sync":
        with pytest.raises(Exception, match="read-only"):  # a failed flush is never retried into success
            await writer.commit()
        assert await nothing_visible(datastore)
        return
    with pytest.raises(NoSpace):
        await writer.commit()
    assert await nothing_visible(datastore)
    full = False
    result = await writer.commit()
    assert await read(datastore, result.snapshot, "etc.tree") == CONTENT


async def test_a_group_that_somebody_else_made_meanwhile_is_not_taken(datastore: Datastore) -> None:
    writer = await ready(datastore)
    mine = writer.session.facts.name
    datastore.sessions._open.clear()  # the group is free, as for another server's tool
    await backup(datastore, {"etc.tree": CONTENT}, auth_id=OTHER)
    with pytest.raises(ConflictError, match="another identity"):
        await writer.commit()
    assert await datastore.snapshots.owner(mine.namespace, mine.group) == OTHER


async def test_a_failed_first_commit_claims_no_group(box: Box) -> None:
    def hook(at: str) -> None:
        if at == "publish.index":
            raise OSError(28, "No space left on device")

    box.options = Options(hook=hook)
    datastore = await box.open()
    writer = await ready(datastore)
    with pytest.raises(NoSpace):
        await writer.commit()
    await writer.session.abort("full")
    datastore.store.close()
    box.options = Options()
    datastore = await box.open()
    await backup(datastore, {"etc.tree": CONTENT}, auth_id=OTHER)
