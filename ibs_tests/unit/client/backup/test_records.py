"""Index records: in order, after their chunks, digested as the server's file will be."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ibs.client.backup import records as recording
from ibs.client.backup.known import Ledger
from ibs.client.backup.records import RecordWriter, write_records
from ibs.core import index, limits
from ibs.core.ids import digest
from ibs.core.index import IndexHeader, tree_record
from ibs.errors import FailedError
from ibs.runtime.pool import InlinePool


class Appends:
    """Keeps what is appended."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, bytes]] = []

    async def append(self, archive: str, first_record: int, records: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append((archive, first_record, bytes(records)))


def writer(ledger: Ledger | None = None) -> tuple[RecordWriter, Appends]:
    appends = Appends()
    return RecordWriter(appends, InlinePool(), ledger or Ledger(), "a.tree", "tree"), appends  # type: ignore[arg-type]


def rows(count: int) -> list[bytes]:
    return [tree_record(digest(bytes([n % 256, n // 256])), 1 + n, int(n == count - 1)) for n in range(count)]


async def test_the_digest_is_that_of_the_finished_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_MEMORY_BYTES", 100)
    monkeypatch.setattr(recording, "FLUSH_BYTES", 500)
    write, appends = writer()
    body = rows(100)
    for one in body:
        await write.put(one, [])
    assert write.count == 100
    await write.flush()
    root = digest(b"\x63\x00")
    header = IndexHeader("tree", 40, 100, 77, 0, 1, bytes(32), root, digest(b"".join(body)))
    whole = digest(index.encode_header(header) + b"".join(body)).hex()
    assert await write.digest(plain_bytes=77, chunk_bytes=0, depth=1, domain=bytes(32), root=root) == whole
    assert b"".join(one for _, _, one in appends.calls) == b"".join(body)
    at = 0
    for _, first, one in appends.calls:
        assert first == at
        at += len(one) // 40
    assert len(appends.calls) > 5
    write.close()
    write.close()


async def test_bodies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_BODY_BYTES_MAX", 199)
    write, appends = writer()
    await write.put(b"".join(rows(10)), [])
    await write.flush()
    assert [len(one) for _, _, one in appends.calls] == [160, 160, 80]
    write.close()


async def test_a_record_waits_for_its_chunk() -> None:
    ledger = Ledger()
    write, appends = writer(ledger)
    chunk_id = digest(b"x")
    ledger.claim(chunk_id)
    send, receive = trio.open_memory_channel[tuple[bytes, list[bytes]]](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_records, write, receive)
        async with send:
            await send.send((tree_record(chunk_id, 1, 0), [chunk_id]))
        await trio.testing.wait_all_tasks_blocked()
        assert appends.calls == []
        ledger.acknowledge([chunk_id])
    assert len(appends.calls) == 1
    write.close()


async def test_a_full_temporary_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    write, _ = writer()

    class Full:
        def write(self, _data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    write.close()
    monkeypatch.setattr(write, "_kept", Full())
    await write.put(rows(1)[0], [])
    with pytest.raises(FailedError, match="No space left on device"):
        await write.flush()
