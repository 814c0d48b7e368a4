"""Write sessions over HTTP: each call reaches the session with what was sent, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.control.routes.sessions import chunk_id_of, datastore_path
from ibs.core import limits
from ibs.errors import NotFoundError, UsageError
from ibs.wire.session import ArchiveClose, CommitRequest, LogLine, SessionOpen, StageFigures, StageReport
from ibs_tests.support.control import OWNER, SESSION, FakeContext

HEX = "0a" * 32


def test_paths_and_ids() -> None:
    assert datastore_path("main", "") == "/datastore/main"
    assert datastore_path("main", "a/b") == "/datastore/main/a/b"
    for store, namespace in (("..", ""), ("main", ".."), ("main", "a//b"), ("a/b", "")):
        with pytest.raises(UsageError):
            datastore_path(store, namespace)
    assert chunk_id_of(HEX) == b"\x0a" * 32
    for wrong in ("", "0a", HEX.upper(), HEX + "0a", "zz" * 32, " " + HEX, "0a " * 32):
        with pytest.raises(NotFoundError):
            chunk_id_of(wrong)


async def test_open(ask: Any, context: FakeContext) -> None:
    body = {"store": "main", "group": "host/a", "archives": ["etc.tree"], "namespace": "a"}
    assert (await ask("POST", "/datastores/main/sessions", json=body)).json()["session_id"] == SESSION
    wanted = SessionOpen(store="main", group="host/a", archives=["etc.tree"], namespace="a")
    assert context.asked == [("open", "main", OWNER, wanted)]


async def test_reuse(ask: Any, context: FakeContext) -> None:
    for path, content, asked in (
        ("base/etc.tree", b"index", ("base_index", "etc.tree")),
        ("available/etc.tree", b"\1", ("base_available", "etc.tree")),
        ("resumed", b"", ("resumed_ids",)),
        (f"chunks/{HEX}", b"blob", ("base_chunk", b"\x0a" * 32)),
    ):
        answer = await ask("GET", f"/sessions/{SESSION}/{path}")
        assert (answer.content, answer.headers["content-type"]) == (content, "application/octet-stream")
        assert context.asked[-1] == asked


async def test_doubt(ask: Any, context: FakeContext) -> None:
    await ask("POST", f"/sessions/{SESSION}/suspects", 204, content=bytes(64))
    assert context.asked[-1] == ("suspect", bytes(64))


async def test_deliver_and_finish(ask: Any, context: FakeContext) -> None:
    assert (await ask("POST", f"/sessions/{SESSION}/chunks", content=b"blobs")).json() == {"received": 2}
    assert context.asked[-1] == ("send_body", b"blobs")
    await ask("POST", f"/sessions/{SESSION}/archives/etc.tree/records?first=7", 204, content=b"records")
    assert context.asked[-1] == ("append", "etc.tree", 7, b"records")
    closed = ArchiveClose(plain_bytes=1, records=2)
    answer = await ask("POST", f"/sessions/{SESSION}/archives/etc.tree/close", json={"plain_bytes": 1, "records": 2})
    assert "index_digest" in answer.json()
    assert context.asked[-1] == ("close_archive", "etc.tree", closed)
    await ask("PUT", f"/sessions/{SESSION}/blobs/client.log", 204, content=b"log")
    assert context.asked[-1] == ("put_blob", "client.log", b"log")


async def test_report_commit_and_abort(ask: Any, context: FakeContext) -> None:
    report = {"done_bytes": 5, "stages": {"read": {"busy_seconds": 1}}, "lines": [{"level": "info", "text": "x"}]}
    await ask("POST", f"/sessions/{SESSION}/report", 204, json=report)
    stages = {"read": StageFigures(busy_seconds=1.0)}
    wanted = StageReport(done_bytes=5, stages=stages, lines=[LogLine(level="info", text="x")])
    assert context.asked[-1] == ("report", wanted)
    await ask("POST", f"/sessions/{SESSION}/commit", json={"manifest": "{}"})
    assert context.asked[-1] == ("commit", SESSION, OWNER, CommitRequest(manifest="{}"))
    await ask("DELETE", f"/sessions/{SESSION}?reason=enough", 204)
    assert context.asked[-1] == ("abort", "enough", False)
    await ask("DELETE", f"/sessions/{SESSION}", 204)
    assert context.asked[-1] == ("abort", "given up by the client", False)
    await ask("DELETE", f"/sessions/{SESSION}?discard=1", 204)
    assert context.asked[-1] == ("abort", "given up by the client", True)


async def test_bodies_have_their_own_bounds(ask: Any, context: FakeContext) -> None:
    bounds = {
        ("POST", "chunks"): limits.CHUNK_BODY_BYTES_MAX,
        ("POST", "archives/etc.tree/records"): limits.RECORDS_BODY_BYTES_MAX,
        ("PUT", "blobs/client.log"): limits.SNAPSHOT_BLOB_BYTES_MAX,
    }
    for (method, path), bound in bounds.items():
        await ask(method, f"/sessions/{SESSION}/{path}", content=bytes(bound))
        context.asked.clear()
        await ask(method, f"/sessions/{SESSION}/{path}", 400, content=bytes(bound + 1))
        assert context.asked == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "base/etc", 400),
        ("GET", "base/..%2fx.tree", 404),
        ("GET", "available/.tree", 400),
        ("GET", "chunks/zz", 404),
        ("POST", "archives/etc.zip/records", 400),
        ("POST", "archives/etc.tree/records?first=-1", 400),
        ("POST", "archives/etc.tree/records?first=4294967297", 400),
        ("POST", "archives/.img/close", 400),
        ("PUT", "blobs/manifest.json", 400),
        ("PUT", "blobs/.hidden", 400),
        ("PUT", "blobs/%2e%2e", 400),
    ],
)
async def test_names_that_are_none(ask: Any, context: FakeContext, method: str, path: str, status: int) -> None:
    body = {} if method == "GET" else {"json": {"plain_bytes": 1, "records": 1}}
    await ask(method, f"/sessions/{SESSION}/{path}", status, **body)
    assert context.asked == []


async def test_a_session_that_is_not_there(ask: Any) -> None:
    body = (await ask("GET", "/sessions/unknown/resumed", 410)).json()
    assert (body["code"], body["retry"]) == ("session-lost", "now")
