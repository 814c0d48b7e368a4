"""Locks are made by those who administer a namespace; whoever only backs up there cannot fill it for good."""

from __future__ import annotations

from typing import Any

from ibs.wire.lifecycle import ComplianceSet, SnapshotLock
from ibs_tests.support.control import OWNER, Certificates, FakeContext
from ibs_tests.unit.control.routes.test_lifecycle import SNAPSHOT

UNTIL = "2030-01-01T00:00:00Z"


async def test_requests_are_passed_on(ask: Any, context: FakeContext) -> None:
    await ask("POST", "/datastores/main/snapshot/lock", 200, json={"snapshot": SNAPSHOT, "until": UNTIL})
    assert context.asked[-1] == ("lock", "main", OWNER, SnapshotLock(snapshot=SNAPSHOT, until=UNTIL))
    await ask("POST", "/datastores/main/compliance", 200, json={"namespace": "law", "seconds": 60})
    assert context.asked[-1] == ("set_compliance", "main", OWNER, ComplianceSet(namespace="law", seconds=60))
    assert len((await ask("GET", "/datastores/main/compliance")).json()) == 1


async def test_they_need_the_namespace(ask: Any, context: FakeContext, certificates: Certificates) -> None:
    context.access.rules.clear()
    context.access.grant(OWNER, "Datastore.PowerUser", "/datastore/main")
    context.access.grant(OWNER, "Datastore.Admin", "/datastore/main/law")
    for space, status in (("", 403), ("other", 403), ("law", 200), ("law/2026", 200)):
        name = f"ns:{space}/{SNAPSHOT}" if space else SNAPSHOT
        await ask("POST", "/datastores/main/snapshot/lock", status, json={"snapshot": name, "until": UNTIL})
        await ask("POST", "/datastores/main/compliance", status, json={"namespace": space, "seconds": 60})
