"""What bodies must be to be taken (PROTOCOLS 6 and 7)."""

from __future__ import annotations

import pytest
from blake3 import blake3

from ibs.core import limits
from ibs.core.ids import Address
from ibs.core.keys import DataKeys
from ibs.engine.datastore import Datastore
from ibs.engine.session.journal import JOURNAL_FILE
from ibs.errors import CorruptChunk, FormatError, NoSpace, RefusedError, UsageError
from ibs.ports.chunkstore import ChunkState, PutOutcome
from ibs_tests.support.engine import Box, address_of, key_registry, start

KEYS = DataKeys.from_root(b"\7" * 32)
OTHER_KEYS = DataKeys.from_root(b"\1" * 32)


def state(datastore: Datastore, address: Address) -> ChunkState:
    return datastore.store.info([address])[0].state


async def test_several_blobs_in_one_body(datastore: Datastore) -> None:
    writer = await start(datastore)
    assert await writer.session.send_body(writer.blob(b"one") + writer.blob(b"two")) == 2
    assert state(datastore, address_of(b"two")) is ChunkState.RECEIVED
    assert await writer.session.send_body(b"") == 0


async def test_a_plain_blob_whose_content_is_not_its_id_is_refused(datastore: Datastore) -> None:
    """Else anyone could put bytes of his choice under the id of somebody else's content."""
    writer = await start(datastore)
    lie = writer.encoder.encode(b"evil", writer.id(b"good"))
    with pytest.raises(CorruptChunk, match="does not match the chunk id"):
        await writer.session.send_body(lie)
    assert state(datastore, address_of(b"good")) is ChunkState.ABSENT
    assert not writer.session._pins.uploaded(writer.id(b"good"))


async def test_damage_on_the_way_is_noticed_before_anything_is_kept(datastore: Datastore) -> None:
    writer = await start(datastore)
    body = bytearray(writer.blob(b"first") + writer.blob(b"second"))
    body[-1] ^= 1
    with pytest.raises(CorruptChunk):
        await writer.session.send_body(body)
    assert state(datastore, address_of(b"first")) is ChunkState.ABSENT
    assert JOURNAL_FILE not in datastore.store.staging.folder(writer.session.session_id).names()


@pytest.mark.parametrize("cut", [1, 127, 128, 140])
async def test_torn_bodies_are_refused(datastore: Datastore, cut: int) -> None:
    writer = await start(datastore)
    with pytest.raises(FormatError):
        await writer.session.send_body(writer.blob(b"x" * 300)[:cut])


async def test_bodies_are_bounded(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = await start(datastore)
    with pytest.raises(UsageError, match="too long"):
        await writer.session.send_body(bytes(limits.CHUNK_BODY_BYTES_MAX + 1))
    monkeypatch.setattr(limits, "BODY_BLOBS_MAX", 2)
    with pytest.raises(UsageError, match="too many chunks"):
        await writer.send(b"1", b"2", b"3")


async def test_a_compression_bomb_is_refused(datastore: Datastore) -> None:
    writer = await start(datastore)
    bomb = bytearray(writer.blob(bytes(limits.CHUNK_PLAIN_BYTES_MAX)))
    bomb[8:12] = (5000).to_bytes(4, "little")  # it says that it is small
    bomb[96:128] = blake3(bytes(bomb[:96]) + bytes(bomb[128:])).digest()
    with pytest.raises(FormatError):
        await writer.session.send_body(bomb)


async def test_encrypted_blobs_of_the_sessions_key_only(box: Box) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    writer = await start(datastore, keys=KEYS)
    await writer.send(b"secret")
    assert state(datastore, Address(KEYS.fingerprint, KEYS.chunk_id(b"secret"))) is ChunkState.RECEIVED
    for keys in (None, OTHER_KEYS):
        stranger = type(writer)(writer.session, keys)
        with pytest.raises(RefusedError, match="another key"):
            await stranger.send(b"secret")
    plain = await start(datastore, group="host/db01")
    with pytest.raises(RefusedError, match="another key"):
        await plain.session.send_body(writer.blob(b"secret"))


async def test_damage_of_an_encrypted_blob_is_noticed(box: Box) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    writer = await start(datastore, keys=KEYS)
    body = bytearray(writer.blob(b"secret"))
    body[-1] ^= 1
    with pytest.raises(CorruptChunk):
        await writer.session.send_body(body)
    assert list(datastore.store.iterate()) == []


async def test_a_bad_chunk_is_healed_by_sending_it_again(box: Box, datastore: Datastore) -> None:
    writer = await start(datastore)
    await writer.archive("etc.tree", [b"data", b"meta"])
    await writer.commit()
    box.spoil(b"data")
    with pytest.raises(CorruptChunk):
        datastore.store.get(address_of(b"data"))
    again = await start(datastore, use_base=False)
    await again.send(b"data")
    assert datastore.store.get(address_of(b"data")) == again.blob(b"data")
    assert again.session._ingest.new_chunks == 1


async def test_the_journal_is_written_before_the_chunk(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process must leave no chunk that no journal names."""
    writer = await start(datastore)
    folder = datastore.store.staging.folder(writer.session.session_id)
    seen: list[bytes] = []

    def put(address: Address, blob: bytes) -> PutOutcome:
        seen.append(folder.read(JOURNAL_FILE))
        raise NoSpace("s1", "inodes")

    monkeypatch.setattr(datastore.store, "put", put)
    with pytest.raises(NoSpace, match="inodes"):
        await writer.send(b"data")
    assert seen == [writer.id(b"data")]


async def test_duplicates_count_as_received_not_as_new(datastore: Datastore) -> None:
    writer = await start(datastore)
    await writer.send(b"data")
    await writer.send(b"data")
    ingest = writer.session._ingest
    assert (ingest.received_chunks, ingest.new_chunks, ingest.new_bytes) == (2, 1, len(writer.blob(b"data")))
