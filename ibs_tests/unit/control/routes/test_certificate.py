"""The certificate's routes pass on who asks, and what was given; every answer tells what to pin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ibs.security.pinning import PINS_HEADER
from ibs_tests.support.control import OWNER, FakeCertificates, FakeContext


async def test_shown_replaced_and_withdrawn(ask: Any, context: FakeContext) -> None:
    assert "fingerprint" in (await ask("GET", "/certificate")).json()
    await ask("POST", "/certificate", 200, json={"pem": "content"})
    assert context.asked[-1] == ("replace", OWNER, "content", 0)
    await ask("POST", "/certificate", 200, json={"pem": "content", "seconds": 60})
    assert context.asked[-1] == ("replace", OWNER, "content", 60)
    await ask("POST", "/certificate/renew", json={"seconds": 7 * 86_400})
    assert context.asked[-1] == ("renew", OWNER, 7 * 86_400)
    await ask("POST", "/certificate", 400, json={"pem": "x" * 70_000})
    for seconds in (-1, 1e12, "soon"):
        await ask("POST", "/certificate/renew", 400, json={"seconds": seconds})
    await ask("DELETE", "/certificate/next", 204)
    assert context.asked[-1] == ("withdraw", OWNER)


async def test_every_answer_tells_what_to_pin(ask: Any) -> None:
    assert (await ask("GET", "/certificate")).headers[PINS_HEADER] == FakeCertificates.pins
    assert (await ask("GET", "/ping")).headers[PINS_HEADER] == FakeCertificates.pins


async def test_hosts_that_were_not_told_are_named(
    ask: Any, context: FakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def host(name: str, joined: str, contact: str, built_in: bool = False) -> Any:
        return SimpleNamespace(name=name, joined=joined, last_contact=contact, built_in=built_in)

    hosts = [
        host("local", "2026-01-01T00:00:00Z", "", built_in=True),
        host("never", "", ""),
        host("silent", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        host("there", "2026-01-01T00:00:00Z", "2026-02-02T00:00:01Z"),
    ]
    monkeypatch.setattr(type(context.hosts), "list", lambda self: hosts)
    assert (await ask("GET", "/certificate")).json()["unaware"] == []
    monkeypatch.setattr(FakeCertificates, "prepared", "2026-02-02T00:00:00Z")
    assert (await ask("GET", "/certificate")).json()["unaware"] == ["silent"]
