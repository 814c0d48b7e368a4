"""Readers over HTTP: chunks in the order asked for, files whole, a lease that is given back."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ibs.core import limits
from ibs.errors import ChunkNotFound, CorruptChunk
from ibs.wire.reader import ReaderClose, ReaderOpen
from ibs_tests.support.control import OWNER, READER, FakeContext, Served


async def test_open_tells_whether_everything_may_be_read(ask: Any, served: Served, context: FakeContext) -> None:
    assert (await ask("POST", "/datastores/main/readers", json={"snapshot": "host/a"})).json()["reader_id"] == READER
    assert context.asked[-1] == ("open", "main", OWNER, ReaderOpen(snapshot="host/a"), True)
    own = context.access.grant("a@ibs!t", "Datastore.Backup", "/datastore/main/lab")
    async with served.http(own) as http:
        body = {"snapshot": "host/a", "namespace": "lab"}
        assert (await http.post("/datastores/main/readers", json=body)).status_code == 200
        assert context.asked[-1] == ("open", "main", "a@ibs!t", ReaderOpen(snapshot="host/a", namespace="lab"), False)
        assert (await http.post("/datastores/main/readers", json={"snapshot": "host/a"})).status_code == 403


async def test_the_namespace_in_the_name_is_not_a_way_around(served: Served, context: FakeContext) -> None:
    """The rule is asked for the body's namespace; a name that holds another one must not be opened with it."""
    lab = context.access.grant("a@ibs!t", "Datastore.Reader", "/datastore/main/lab")
    async with served.http(lab) as http:
        body = {"snapshot": "ns:office/host/a", "namespace": "lab"}
        answer = await http.post("/datastores/main/readers", json=body)
        assert answer.status_code in {400, 403}, answer.text
        assert context.asked == []


async def test_files_and_chunks(ask: Any, context: FakeContext) -> None:
    assert (await ask("GET", f"/readers/{READER}/files/etc.tree.idx")).content == b"content"
    assert context.asked[-1] == ("file", "etc.tree.idx")
    answer = await ask("POST", f"/readers/{READER}/chunks", content=b"a" * 32 + b"b" * 32)
    assert answer.content == b"onetwo"
    assert context.asked[-1] == ("fetch", [b"a" * 32, b"b" * 32])


@pytest.mark.parametrize("size", [0, 1, 31, 33, limits.FETCH_IDS_MAX * 32 + 1, (limits.FETCH_IDS_MAX + 1) * 32])
async def test_a_list_of_ids_that_is_none(ask: Any, context: FakeContext, size: int) -> None:
    assert (await ask("POST", f"/readers/{READER}/chunks", 400, content=bytes(size))).json()["code"] == "usage"
    assert context.asked == []


async def test_a_missing_chunk_is_an_error_and_no_half_answer(ask: Any, context: FakeContext) -> None:
    context.reader.answers["fetch"] = ChunkNotFound("ab" * 32, snapshot="host/a")
    body = (await ask("POST", f"/readers/{READER}/chunks", 404, content=bytes(32))).json()
    assert (body["code"], body["details"]["snapshot"]) == ("chunk-not-found", "host/a")


async def test_a_large_download_is_not_held_in_memory(ask: Any, context: FakeContext) -> None:
    """It comes whole; what is wrong with its beginning is told, what goes wrong later cuts it short."""
    blob = bytes(1 << 20)
    context.reader.answers["fetch"] = [blob] * 20
    assert len((await ask("POST", f"/readers/{READER}/chunks", content=bytes(32))).content) == 20 << 20
    context.reader.answers["fetch"] = [blob, CorruptChunk("ab", "digest")]
    body = (await ask("POST", f"/readers/{READER}/chunks", 500, content=bytes(32))).json()
    assert body["code"] == "corrupt"
    context.reader.answers["fetch"] = [blob] * 20 + [CorruptChunk("ab", "digest")]
    with pytest.raises(httpx.RemoteProtocolError):
        await ask("POST", f"/readers/{READER}/chunks", content=bytes(32))


async def test_close(ask: Any, context: FakeContext) -> None:
    await ask("POST", f"/readers/{READER}/close", 204, json={"status": "WARNING", "warnings": 2})
    assert context.asked[-1] == ("close", READER, OWNER, ReaderClose(status="WARNING", warnings=2))
    await ask("POST", f"/readers/{READER}/close", 204)
    assert context.asked[-1] == ("close", READER, OWNER, ReaderClose())
    assert (await ask("POST", "/readers/unknown/close", 410)).json()["code"] == "session-lost"
