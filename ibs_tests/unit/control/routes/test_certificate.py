"""The certificate's routes pass on who asks, and what was given."""

from __future__ import annotations

from typing import Any

from ibs_tests.support.control import OWNER, FakeContext


async def test_shown_and_replaced(ask: Any, context: FakeContext) -> None:
    assert "fingerprint" in (await ask("GET", "/certificate")).json()
    await ask("POST", "/certificate", 200, json={"pem": "content"})
    assert context.asked[-1] == ("replace", OWNER, "content")
    await ask("POST", "/certificate/renew")
    assert context.asked[-1] == ("renew", OWNER)
    await ask("POST", "/certificate", 400, json={"pem": "x" * 70_000})
