"""Datastores, groups and snapshots: what is asked for; what others own is not shown without the right to it."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.core.names import Group, Namespace, SnapshotName
from ibs.errors import ConflictError, DatastoreOffline
from ibs.wire.datastore import MaintenanceRequest
from ibs_tests.support.control import FakeContext, Served

SNAPSHOT = "host/a/2026-11-22T19:00:00Z"


async def test_life_of_a_datastore(ask: Any, context: FakeContext) -> None:
    await ask("POST", "/datastores", 201, json={"name": "main", "path": "/srv/main", "comment": "c"})
    assert context.asked[-1] == ("create", "main", "/srv/main", "c")
    for method, path, asked in (
        ("GET", "/datastores/main", ("view", "main")),
        ("GET", "/datastores/main/stats", ("stats", "main")),
        ("POST", "/datastores/main/probe", ("probe", "main")),
        ("DELETE", "/datastores/main", ("detach", "main")),
    ):
        await ask(method, path)
        assert context.asked[-1] == asked


async def test_an_existing_datastore_is_attached(ask: Any, context: FakeContext) -> None:
    await ask("GET", "/datastores/main/usage?by=namespace")
    assert context.asked[-1] == ("usage", "main", "namespace")
    body = {"name": "main", "path": "/srv/old", "takeover": True}
    await ask("POST", "/datastores/adopt", 201, json=body)
    assert context.asked[-1] == ("adopt", "main", "/srv/old", "", True)
    await ask("GET", "/datastores/adopt")  # a datastore may be called that
    assert context.asked[-1] == ("view", "adopt")


async def test_modes_of_a_datastore(ask: Any, context: FakeContext) -> None:
    await ask("POST", "/datastores/main/quarantine", json={"reason": "a disk lies"})
    assert context.asked[-1][:2] + context.asked[-1][3:] == ("quarantine", "main", "a disk lies")
    await ask("POST", "/datastores/main/release", json={"cause": "a cable"})
    assert context.asked[-1][:2] + context.asked[-1][3:] == ("release", "main", "a cable")
    await ask("POST", "/datastores/main/release", 400, json={})
    assert (await ask("POST", "/datastores/main/maintenance", json={"mode": "offline"})).json()["upid"]
    assert context.asked[-1][0] == "maintain"
    assert context.asked[-1][3] == MaintenanceRequest(mode="offline")
    assert (await ask("POST", "/datastores/main/reindex")).json()["upid"]
    assert context.asked[-1][:2] == ("reindex", "main")


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-x", "x" * 65, "a b", "ü", "a\0"])
async def test_a_name_that_is_none_changes_nothing(ask: Any, context: FakeContext, name: str) -> None:
    assert (await ask("POST", "/datastores", 400, json={"name": name, "path": "/srv/x"})).json()["code"] == "usage"
    assert context.asked == []


async def test_what_the_engine_refuses_keeps_its_words(ask: Any, context: FakeContext) -> None:
    context.datastores.answers["create"] = ConflictError("/srv/x holds files already", hint="choose an empty folder")
    body = (await ask("POST", "/datastores", 409, json={"name": "main", "path": "/srv/x"})).json()
    assert (body["message"], body["hint"]) == ("/srv/x holds files already", "choose an empty folder")
    context.datastores.answers["get"] = DatastoreOffline("main", "not mounted")
    offline = await ask("GET", "/datastores/main/snapshots", 503)
    assert offline.json()["details"] == {"store": "main", "reason": "not mounted"}
    assert offline.headers["retry-after"] == "5"


async def test_the_list_holds_what_the_caller_may_audit(served: Served, context: FakeContext) -> None:
    some = context.access.grant("a@ibs!t", "Datastore.Audit", "/datastore/other")
    async with served.http(some) as http:
        assert [row["name"] for row in (await http.get("/datastores")).json()] == ["other"]
    async with served.http(context.access.token("b@ibs!t")) as http:
        assert (await http.get("/datastores")).json() == []


async def test_groups_and_snapshots(ask: Any, context: FakeContext) -> None:
    assert len((await ask("GET", "/datastores/main/groups?namespace=a/b")).json()) == 2
    assert context.asked == [("get", "main"), ("group_views", Namespace(("a", "b")))]
    assert len((await ask("GET", "/datastores/main/snapshots?group=host/a")).json()) == 2
    assert context.asked[-1] == ("snapshot_views", Namespace(()), Group.parse("host/a"))
    await ask("GET", "/datastores/main/snapshots")
    assert context.asked[-1] == ("snapshot_views", Namespace(()), None)
    await ask("GET", f"/datastores/main/snapshot?name={SNAPSHOT}&namespace=a")
    assert context.asked[-1] == ("snapshot_view", SnapshotName.parse(SNAPSHOT, Namespace(("a",))), None)


async def test_without_audit_only_ones_own(served: Served, context: FakeContext) -> None:
    mine = context.access.grant("other@ibs!t", "Datastore.Backup", "/datastore/main")
    async with served.http(mine) as http:
        for path in ("groups", "snapshots"):
            assert {row["owner"] for row in (await http.get(f"/datastores/main/{path}")).json()} == {"other@ibs!t"}
        await http.get("/datastores/main/snapshot", params={"name": SNAPSHOT})
    assert context.asked[-1] == ("snapshot_view", SnapshotName.parse(SNAPSHOT), "other@ibs!t")


@pytest.mark.parametrize(
    "path",
    [
        "groups?namespace=a//b",
        "groups?namespace=..",
        "groups?namespace=" + "/".join("a" * 9),
        "snapshots?group=host",
        "snapshots?group=host/../x",
        "snapshot?name=x",
        "snapshot",
        "snapshot?name=host/a/now",
    ],
)
async def test_names_that_are_none(ask: Any, context: FakeContext, path: str) -> None:
    assert (await ask("GET", f"/datastores/main/{path}", 400)).json()["code"] == "usage"


async def test_the_namespace_in_a_snapshots_name_is_the_one_that_is_guarded(
    served: Served, context: FakeContext
) -> None:
    """The name wins over the parameter, so the parameter must not be what is asked for."""
    lab = context.access.grant("a@ibs!t", "Datastore.Audit", "/datastore/main/lab")
    async with served.http(lab) as http:
        ok = await http.get("/datastores/main/snapshot", params={"name": SNAPSHOT, "namespace": "lab"})
        assert ok.status_code == 200
        for query in (
            {"name": f"ns:office/{SNAPSHOT}", "namespace": "lab"},
            {"name": f"ns:office/{SNAPSHOT}"},
            {"name": SNAPSHOT},
        ):
            context.asked.clear()
            answer = await http.get("/datastores/main/snapshot", params=query)
            assert answer.status_code in {400, 403}, answer.text
            assert context.asked == []
