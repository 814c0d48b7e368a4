"""Roles, groups of users, explanations: the path names what is changed; others' rights are for auditors."""

from __future__ import annotations

from typing import Any

from ibs.wire.access import RoleSet, UserGroupSet
from ibs_tests.support.control import OWNER, FakeContext


async def test_roles(ask: Any, context: FakeContext) -> None:
    assert len((await ask("GET", "/access/roles")).json()) == 1
    await ask("POST", "/access/roles", 201, json={"name": "X", "privileges": ["Datastore.Read"]})
    assert context.asked[-1] == ("create", OWNER, RoleSet(name="X", privileges=["Datastore.Read"]))
    await ask("POST", "/access/roles/X", 200, json={"name": "ignored", "privileges": ["Datastore.Read"]})
    assert context.asked[-1] == ("update", OWNER, RoleSet(name="X", privileges=["Datastore.Read"]))
    await ask("DELETE", "/access/roles/X", 204)
    assert context.asked[-1] == ("remove", OWNER, "X")


async def test_groups(ask: Any, context: FakeContext) -> None:
    assert len((await ask("GET", "/access/groups")).json()) == 1
    await ask("POST", "/access/groups", 201, json={"name": "ops", "members": ["a@ibs"]})
    assert context.asked[-1] == ("create_group", OWNER, UserGroupSet(name="ops", members=["a@ibs"]))
    await ask("POST", "/access/groups/ops", 200, json={"name": "ignored"})
    assert context.asked[-1] == ("update_group", OWNER, UserGroupSet(name="ops"))
    await ask("DELETE", "/access/groups/ops", 204)
    assert context.asked[-1] == ("remove_group", OWNER, "ops")


async def test_explain(ask: Any, context: FakeContext) -> None:
    query = {"auth_id": "a@ibs", "path": "/system", "privilege": "System.Audit"}
    await ask("GET", "/access/explain", params=query)
    assert context.asked[-1] == ("explain", "a@ibs", "/system", "System.Audit")
    await ask("GET", "/access/explain")
    assert context.asked[-1] == ("explain", OWNER, "/", "")
    context.access.rules.clear()
    context.asked.clear()
    await ask("GET", "/access/explain", 403, params=query)
    assert context.asked == []
    for own in (OWNER, OWNER.partition("!")[0]):
        await ask("GET", "/access/explain", params={"auth_id": own})
    await ask("GET", "/access/explain", 403, params={"auth_id": OWNER + "x"})
