"""Mending: what is damaged is replaced by what proves to be the same, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ibs.core import manifest as manifests
from ibs.core.blob import BlobEncoder
from ibs.core.ids import chunk_id, digest
from ibs.core.manifest import SnapshotState
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.mending import LOST_STATE, Mender, Replica, replica_of
from ibs.engine.verify import verify_snapshot
from ibs.errors import ConflictError, CorruptChunk, FormatError, SignatureInvalid
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address
from ibs.wire.reader import ReaderOpened
from ibs_tests.support.engine import Box, backup, snapshot_of

CHUNKS = [bytes([65 + number]) * 200 for number in range(6)]
STRANGER = b"s" * 32


@pytest.fixture
async def name(datastore: Datastore) -> SnapshotName:
    return snapshot_of(await backup(datastore, {"etc.tree": CHUNKS}))


@pytest.fixture
async def replica(datastore: Datastore, name: SnapshotName) -> Replica:
    stored = datastore.context.folders.load(name)
    return Replica(stored.manifest_bytes, stored.signature)


@pytest.fixture
async def place(box: Box, name: SnapshotName) -> Path:
    return Path(box.path) / "ns" / str(name)


def mender(datastore: Datastore, name: SnapshotName) -> Mender:
    return Mender(datastore.context, name)


def answered(replica: Replica, **changes: str) -> ReaderOpened:
    facts = {
        "reader_id": "r",
        "upid": "",
        "snapshot": "",
        "manifest": replica.raw.decode(),
        "signature": replica.signature.signature,
        "signer": replica.signature.signer,
    }
    return ReaderOpened(**(facts | changes))


async def test_who_is_believed(datastore: Datastore, name: SnapshotName, replica: Replica) -> None:
    context = datastore.context
    assert replica_of(context, name, answered(replica), STRANGER) == replica  # made here: our own key vouches
    other = SnapshotName.parse(str(name).replace("web01", "web02"))
    with pytest.raises(SignatureInvalid, match="asked for"):
        replica_of(context, other, answered(replica), STRANGER)
    forged = manifests.sign(replica.raw, STRANGER, "server")
    with pytest.raises(SignatureInvalid, match="trusted is"):
        replica_of(
            context,
            name,
            answered(replica, signature=forged.signature, signer=forged.signer),
            manifests.public_key(STRANGER),
        )
    with pytest.raises(SignatureInvalid):
        replica_of(context, name, answered(replica, manifest=replica.raw.decode().replace("host/", "host/x")), STRANGER)


async def test_what_is_sound_is_never_replaced(datastore: Datastore, name: SnapshotName, replica: Replica) -> None:
    assert mender(datastore, name).set_manifest(replica) == []
    raw = replica.raw.replace(b'"warnings":0', b'"warnings":1') + b" "
    other = Replica(raw, manifests.sign(raw, datastore.context.signing_seed, "server"))
    with pytest.raises(ConflictError, match="another one there"):
        mender(datastore, name).set_manifest(other)
    assert datastore.context.folders.load(name).manifest_bytes == replica.raw


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"{")], ids=["gone", "torn"]
)
@pytest.mark.parametrize("files", [("manifest.json",), ("manifest.sig",), ("manifest.json", "manifest.sig")])
async def test_manifest_and_signature_come_back(
    datastore: Datastore,
    name: SnapshotName,
    replica: Replica,
    place: Path,
    damage: Callable[[Path], None],
    files: tuple[str, ...],
) -> None:
    whole = {file: (place / file).read_bytes() for file in ("manifest.json", "manifest.sig")}
    for file in files:
        damage(place / file)
    assert sorted(mender(datastore, name).set_manifest(replica)) == sorted(files)
    assert {file: (place / file).read_bytes() for file in whole} == whole
    assert mender(datastore, name).set_manifest(replica) == []


async def test_a_lost_state_leaves_the_snapshot_protected(
    datastore: Datastore, name: SnapshotName, replica: Replica, place: Path
) -> None:
    (place / "state.json").write_bytes(b"{")
    assert mender(datastore, name).set_manifest(replica) == ["state.json"]
    stored = datastore.context.folders.load(name)
    assert (stored.state.protected, stored.state.notes) == (True, LOST_STATE)
    assert mender(datastore, name).set_manifest(replica) == []


async def test_notes_and_protection_outlive_a_damaged_manifest(
    datastore: Datastore, name: SnapshotName, replica: Replica, place: Path
) -> None:
    def kept(state: SnapshotState) -> SnapshotState:
        return msgspec.structs.replace(state, notes="mine", protected=True)

    datastore.context.folders.change_state(name, kept)
    (place / "manifest.json").write_bytes(b"")
    assert mender(datastore, name).set_manifest(replica) == ["manifest.json"]
    stored = datastore.context.folders.load(name)
    assert (stored.state.protected, stored.state.notes) == (True, "mine")


async def test_a_manifest_that_does_not_fit_what_is_left_is_refused(
    datastore: Datastore, name: SnapshotName, replica: Replica, place: Path
) -> None:
    raw = replica.raw + b" "
    other = Replica(raw, manifests.sign(raw, datastore.context.signing_seed, "server"))
    (place / "manifest.json").write_bytes(b"{")
    with pytest.raises(ConflictError, match="does not fit"):
        mender(datastore, name).set_manifest(other)
    assert (place / "manifest.json").read_bytes() == b"{"


async def test_indexes_and_blobs(datastore: Datastore, name: SnapshotName, place: Path) -> None:
    one = mender(datastore, name)
    assert one.broken_files() == []
    whole = (place / "etc.tree.idx").read_bytes()
    for broken in (whole[:-1], b"", bytes(len(whole)), whole + b"x"):
        (place / "etc.tree.idx").write_bytes(broken)
        assert one.broken_files() == [("etc.tree.idx", digest(whole).hex(), len(whole))]
    with pytest.raises(FormatError, match="not the one"):
        one.set_file("etc.tree.idx", digest(whole).hex(), whole[:-1])
    one.set_file("etc.tree.idx", digest(whole).hex(), whole)
    assert one.broken_files() == []
    (place / "etc.tree.idx").unlink()
    assert len(one.broken_files()) == 1


async def test_chunks(box: Box, datastore: Datastore, name: SnapshotName) -> None:
    one, encoder = mender(datastore, name), BlobEncoder()
    assert list(one.missing()) == []
    addresses = [Address(PLAIN_DOMAIN, chunk_id(chunk)) for chunk in CHUNKS]
    box.spoil(CHUNKS[1])
    box.chunk_path(addresses[4]).unlink()
    assert (await verify_snapshot(datastore, name)).result == "CORRUPT"
    (wanted,) = one.missing()
    assert sorted(address.id for address in wanted) == sorted(addresses[number].id for number in (1, 4))
    blobs = {chunk_id(chunk): bytes(encoder.encode(chunk, chunk_id(chunk))) for chunk in CHUNKS}
    with pytest.raises((CorruptChunk, FormatError)):
        one.take([addresses[1]], [blobs[addresses[4].id]])
    with pytest.raises((CorruptChunk, FormatError)):
        one.take([addresses[1]], [blobs[addresses[1].id][:-1]])
    assert len(next(one.missing())) == 2
    assert one.take(wanted, [blobs[address.id] for address in wanted]) == sum(len(blobs[a.id]) for a in wanted)
    assert list(one.missing()) == []
    report = await verify_snapshot(datastore, name)
    assert (report.result, report.healed) == ("OK", True)
