"""Snapshots of another datastore, kept as they are: byte for byte, whole, and believed only where they are signed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ibs.core import index, manifest
from ibs.core.keys import DataKeys
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.session.facts import Foreign
from ibs.engine.session.session import WriteSession
from ibs.engine.verify import verify_snapshot
from ibs.errors import ChunkNotFound, ConflictError, RefusedError, SignatureInvalid, UsageError
from ibs.ports.chunkstore import Address
from ibs.storage.local.layout import snapshot_folder
from ibs.wire.session import ArchiveClose
from ibs_tests.support.engine import OWNER, SEED, STORE_UUID, Box, address_of, backup, key_registry, read, start

CONTENT = [b"first chunk", b"second", b"meta"]
KEYS = DataKeys.from_root(b"k" * 32)


@dataclass
class Sites:
    """Two datastores of two servers; `there` is the source."""

    here: Datastore
    there: Datastore

    async def foreign(self, snapshot: str) -> Foreign:
        stored = await self.there.snapshots.load(SnapshotName.parse(snapshot))
        return Foreign(stored.manifest_bytes, stored.manifest, stored.signature, manifest.public_key(SEED), "site-b")

    async def bring(self, foreign: Foreign, *, skip: int = 0) -> tuple[WriteSession, int]:
        """Everything but the commit; all but `skip` of the missing chunks. Returns how many were missing."""
        session = await self.here.sessions.open_foreign(OWNER, foreign)
        sent = 0
        for archive in foreign.manifest.archives:
            raw = index_file(self.there, foreign.manifest.snapshot, archive.name)
            header = index.parse_header(raw, file_bytes=len(raw))
            records = raw[index.HEADER_BYTES :]
            ids = np.unique(index.record_ids(records, header.record_bytes), axis=0)
            ids = ids[ids.any(axis=1)]
            missing = ids[~await session.adopt(ids)]
            sent += len(missing)
            for chunk in missing[skip:]:
                await session.send([self.there.store.get(Address(header.domain, chunk.tobytes()))])
            if skip:
                continue
            await session.append(archive.name, 0, records)
            close = ArchiveClose(
                plain_bytes=header.plain_bytes,
                records=header.records,
                root=header.root.hex() if header.kind == "tree" else "",
                depth=header.depth,
                chunk_bytes=header.chunk_bytes,
            )
            assert (await session.close_archive(archive.name, close)).index_digest == archive.index_digest
        return session, sent


def index_file(datastore: Datastore, snapshot: str, archive: str = "etc.tree") -> bytes:
    folder = snapshot_folder(SnapshotName.parse(snapshot))
    return datastore.context.folders.files.read(folder, f"{archive}.idx")


@pytest.fixture
async def sites(tmp_path: Path) -> AsyncIterator[Sites]:
    boxes = []
    for name, uuid in (("here", STORE_UUID), ("there", "bbbbbbbb-bbbb-4ccc-8ddd-eeeeeeeeeeee")):
        (tmp_path / name).mkdir()
        box = Box(str(tmp_path / name / "store"), uuid=uuid).create()
        box.keys = key_registry(KEYS)
        boxes.append(await box.open())
    yield Sites(*boxes)
    for datastore in boxes:
        await datastore.close("done")


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "encrypted"])
async def test_it_is_kept_byte_for_byte_and_verifies(sites: Sites, keys: DataKeys | None) -> None:
    made = await backup(sites.there, {"etc.tree": CONTENT}, keys=keys)
    foreign = await sites.foreign(made.snapshot)
    session, sent = await sites.bring(replace(foreign, notes="keep", protected=True))
    assert sent == len(CONTENT)
    result = await session.commit_foreign(replace(foreign, notes="keep", protected=True))
    assert (result.snapshot, result.manifest_digest) == (made.snapshot, made.manifest_digest)
    stored = await sites.here.snapshots.load(SnapshotName.parse(made.snapshot))
    assert (stored.manifest_bytes, stored.signature) == (foreign.raw, foreign.signature)
    assert (stored.state.notes, stored.state.protected) == ("keep", True)
    assert not isinstance(stored.state.brought, msgspec.UnsetType)
    assert (stored.state.brought.remote, stored.state.brought.datastore) == ("site-b", sites.there.uuid)
    assert await read(sites.here, made.snapshot, "etc.tree", keys=keys) == CONTENT
    assert (await verify_snapshot(sites.here, stored.name)).result == "OK"
    with pytest.raises(ConflictError, match="is there already"):
        await sites.here.sessions.open_foreign(OWNER, foreign)


async def test_what_is_here_is_not_sent_again_and_a_next_backup_follows_it(sites: Sites) -> None:
    await backup(sites.here, {"etc.tree": CONTENT}, group="host/other")
    made = await backup(sites.there, {"etc.tree": [*CONTENT, b"new"]})
    foreign = await sites.foreign(made.snapshot)
    session, sent = await sites.bring(foreign)
    assert sent == 1
    await session.commit_foreign(foreign)
    following = await backup(sites.here, {"etc.tree": CONTENT})
    stored = await sites.here.snapshots.load(SnapshotName.parse(following.snapshot))
    assert stored.manifest.previous == made.manifest_digest
    assert stored.manifest.sequence == foreign.manifest.sequence + 1


async def test_an_interrupted_one_goes_on_where_it_was(sites: Sites) -> None:
    made = await backup(sites.there, {"etc.tree": CONTENT})
    foreign = await sites.foreign(made.snapshot)
    session, sent = await sites.bring(foreign, skip=1)
    assert sent == len(CONTENT)
    await session.interrupt("the line is down")
    session, sent = await sites.bring(foreign)
    assert sent == 1
    await session.commit_foreign(foreign)
    assert await read(sites.here, made.snapshot, "etc.tree") == CONTENT


async def test_a_backup_does_not_inherit_what_was_only_found_here(sites: Sites) -> None:
    await backup(sites.here, {"etc.tree": CONTENT}, group="host/other")
    made = await backup(sites.there, {"etc.tree": CONTENT})
    session, _ = await sites.bring(await sites.foreign(made.snapshot))
    await session.interrupt("the line is down")
    writer = await start(sites.here)
    assert await writer.session.resumed_ids() == b""


async def test_who_signed_it_must_be_known(sites: Sites) -> None:
    made = await backup(sites.there, {"etc.tree": CONTENT})
    foreign = await sites.foreign(made.snapshot)
    changed = foreign.raw.replace(b'"sequence": 1', b'"sequence": 2')
    stranger = manifest.sign(foreign.raw, b"9" * 32, "server")
    for wrong in (
        replace(foreign, signer=b"x" * 32),
        replace(foreign, signature=stranger),
        replace(foreign, raw=changed, manifest=manifest.decode(changed)),
    ):
        with pytest.raises(SignatureInvalid):
            await sites.here.sessions.open_foreign(OWNER, wrong)
    assert sites.here.store.staging.names() == []


async def test_it_is_whole_or_not_there(sites: Sites) -> None:
    made = await backup(sites.there, {"etc.tree": CONTENT})
    foreign = await sites.foreign(made.snapshot)
    session = await sites.here.sessions.open_foreign(OWNER, foreign)
    with pytest.raises(UsageError, match="archives"):
        await session.commit_foreign(foreign)
    await session.interrupt("not yet")
    session, _ = await sites.bring(foreign)
    other = await backup(sites.there, {"etc.tree": [*CONTENT, b"x"]})
    with pytest.raises(UsageError, match="another manifest"):
        await session.commit_foreign(await sites.foreign(other.snapshot))
    assert await sites.here.snapshots.every() == []
    await session.commit_foreign(foreign)


async def test_only_what_was_sent_or_found_may_be_named(sites: Sites) -> None:
    made = await backup(sites.there, {"etc.tree": CONTENT})
    foreign = await sites.foreign(made.snapshot)
    session = await sites.here.sessions.open_foreign(OWNER, foreign)
    raw = index_file(sites.there, made.snapshot)
    with pytest.raises(RefusedError, match="has not delivered"):
        await session.append("etc.tree", 0, raw[index.HEADER_BYTES :])


async def test_a_chunk_that_goes_missing_before_the_end_is_named(sites: Sites) -> None:
    await backup(sites.here, {"etc.tree": CONTENT}, group="host/other")
    made = await backup(sites.there, {"etc.tree": CONTENT})
    foreign = await sites.foreign(made.snapshot)
    session, _ = await sites.bring(foreign)
    gone = address_of(CONTENT[0])
    (Path(sites.here.store.path) / "chunks" / gone.id.hex()[:4] / gone.id.hex()).unlink()
    with pytest.raises(ChunkNotFound):
        sites.here.store.get(gone)  # somebody notices
    with pytest.raises(ChunkNotFound, match=gone.id.hex()):
        await session.commit_foreign(foreign)


async def test_what_was_made_here_comes_home_under_our_own_key_only(sites: Sites) -> None:
    made = await backup(sites.there, {"etc.tree": CONTENT})
    name = SnapshotName.parse(made.snapshot)
    foreign = await sites.foreign(made.snapshot)
    with pytest.raises(ConflictError, match="there already"):
        await sites.there.sessions.open_foreign(OWNER, foreign)
    index_there = index_file(sites.there, made.snapshot, "etc.tree")
    await sites.there.bin.put(name, OWNER, "")
    stranger = manifest.sign(foreign.raw, b"s" * 32, "server")
    forged = replace(foreign, signature=stranger)
    with pytest.raises(SignatureInvalid):
        await sites.there.sessions.open_foreign(OWNER, forged)
    session = await sites.there.sessions.open_foreign(OWNER, foreign)
    ids = np.array(index.record_ids(index_there[index.HEADER_BYTES :], index.TREE_RECORD_BYTES))
    assert (await session.adopt(ids)).all()
    await session.append("etc.tree", 0, index_there[index.HEADER_BYTES :])
    header = index.parse_header(index_there)
    close = ArchiveClose(plain_bytes=header.plain_bytes, records=header.records, root=header.root.hex())
    await session.close_archive("etc.tree", msgspec.structs.replace(close, depth=header.depth))
    await session.commit_foreign(foreign)
    stored = await sites.there.snapshots.load(name)
    assert stored.manifest_bytes == foreign.raw
    assert stored.state.brought is msgspec.UNSET, "it is nobody's copy"
