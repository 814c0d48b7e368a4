"""ping, whoami, status, injected faults, inbox."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ibs.version import API_VERSION, PRODUCT, VERSION
from ibs_tests.support.control import OWNER, FakeContext


async def test_ping_and_whoami(ask: Any) -> None:
    assert (await ask("GET", "/ping")).json() == {"product": PRODUCT, "version": VERSION, "api": API_VERSION}
    assert (await ask("GET", "/whoami")).json() == {"auth_id": OWNER, "signer": FakeContext().signer}


async def test_status(ask: Any) -> None:
    assert [row["role"] for row in (await ask("GET", "/status")).json()["services"]] == ["gc"]


async def test_faults_only_where_the_configuration_allows(ask: Any, context: FakeContext) -> None:
    assert (await ask("POST", "/services/gc/fault")).json()["role"] == "gc"
    assert context.asked == [("inject_fault", "gc")]
    assert (await ask("POST", "/services/nothing/fault", 404)).json()["code"] == "not-found"
    assert (await ask("POST", "/services/%20/fault", 400)).json()["code"] == "usage"
    context.settings = SimpleNamespace(fault_injection=False)
    assert (await ask("POST", "/services/gc/fault", 409)).json()["code"] == "conflict"
    assert len(context.asked) == 1


async def test_inbox(ask: Any, context: FakeContext) -> None:
    assert len((await ask("GET", "/notifications/inbox")).json()) == 1
    await ask("GET", "/notifications/inbox?limit=7&severity=error&source=backup")
    assert context.asked == [("inbox", 50, "", ""), ("inbox", 7, "error", "backup")]
    await ask("GET", "/notifications/inbox?limit=10001", 400)
