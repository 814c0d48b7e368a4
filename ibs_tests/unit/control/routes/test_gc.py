"""Garbage collection over the API: what is asked for; who does not audit a store does not see it."""

from __future__ import annotations

from typing import Any

from ibs.wire.gc import GcStart, GcUndo
from ibs_tests.support.control import OWNER, UPID, FakeContext


async def test_start_and_undo_are_tasks(ask: Any, context: FakeContext) -> None:
    answer = await ask("POST", "/datastores/main/gc", json={"reclaim_now": True, "allow_share": 50})
    assert answer.json()["upid"] == UPID
    assert context.asked[-1][0] == "start_gc"
    assert context.asked[-1][2:] == ("main", GcStart(reclaim_now=True, allow_share=50))
    await ask("POST", "/datastores/main/gc", 400, json={"allow_share": 0})
    await ask("POST", "/datastores/main/gc/undo", json={"everything": True})
    assert context.asked[-1][0] == "undo_gc"
    assert context.asked[-1][2:] == ("main", GcUndo(everything=True))


async def test_a_run_is_held_and_let_go(ask: Any, context: FakeContext) -> None:
    await ask("POST", "/datastores/main/gc/pause")
    assert context.asked[-1] == ("steer_gc", "main", True)
    await ask("POST", "/datastores/main/gc/resume")
    assert context.asked[-1] == ("steer_gc", "main", False)


async def test_status_of_one_or_of_all(ask: Any, context: FakeContext) -> None:
    assert [row["store"] for row in (await ask("GET", "/gc/status")).json()] == ["main", "other"]
    assert context.asked[-1] == ("gc_status", "")
    await ask("GET", "/gc/status?store=main")
    assert context.asked[-1] == ("gc_status", "main")
    assert OWNER
