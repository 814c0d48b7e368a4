"""A role is restarted by whoever may change the server, and only one that exists."""

from __future__ import annotations

from typing import Any

from ibs_tests.support.control import FakeContext


async def test_restart(ask: Any, context: FakeContext) -> None:
    assert (await ask("POST", "/services/gc/restart")).json()["role"] == "gc"
    assert context.asked == [("restart_service", "gc")]
    assert (await ask("POST", "/services/nothing/restart", 404)).json()["code"] == "not-found"
    await ask("POST", "/services/%20/restart", 400)
    assert len(context.asked) == 1
