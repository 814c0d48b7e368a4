"""Tasks, the worker, verification, server-run backups: filters, logs line by line, UPIDs of what was started."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ibs.catalog.tasks import TaskFilter
from ibs.core.access import Privilege
from ibs.errors import ConflictError
from ibs.wire.datastore import VerifyStart
from ibs.wire.system import BackupRun
from ibs_tests.support.control import OWNER, UPID, FakeContext, Served


async def test_list_with_filters(ask: Any, served: Served, context: FakeContext) -> None:
    assert len((await ask("GET", "/tasks")).json()) == 1
    assert context.asked[-1] == ("list", "", "", "", 50)
    await ask("GET", "/tasks?state=Starting&type=verify&limit=3")
    assert context.asked[-1] == ("list", "Starting", "verify", "", 3)
    async with served.http(context.access.token("a@ibs!t")) as http:
        assert (await http.get("/tasks")).status_code == 200
    assert context.asked[-1] == ("list", "", "", "a@ibs!t", 50)


@pytest.mark.parametrize("query", ["state=sleeping", "state=starting", "type=vacuum", "limit=x", "order=up"])
async def test_filters_that_are_none(ask: Any, context: FakeContext, query: str) -> None:
    body = (await ask("GET", f"/tasks?{query}", 400)).json()
    assert body["hint"]
    assert context.asked == []


async def test_show_and_log(ask: Any, context: FakeContext) -> None:
    assert (await ask("GET", f"/tasks/{UPID}")).json()["upid"] == UPID
    answer = await ask("GET", f"/tasks/{UPID}/log?from=1&follow=1")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["n"] for line in answer.text.splitlines()] == [1, 2]
    assert context.asked[-1] == ("log", UPID, 1, True)


@pytest.mark.parametrize("path", ["UPID:none", "UPID:none/log", "UPID:none/stop", "%0a", "x" * 1000])
async def test_a_task_that_is_not_there(ask: Any, path: str) -> None:
    method = "POST" if path.endswith("stop") else "GET"
    assert (await ask(method, f"/tasks/{path}", 404)).json()["code"] == "not-found"


async def test_stop(ask: Any, context: FakeContext) -> None:
    assert (await ask("POST", f"/tasks/{UPID}/stop")).json()["upid"] == UPID
    assert context.asked[-1] == ("stop", UPID)
    context.tasks.answers["stop"] = ConflictError("the task has ended already")
    await ask("POST", f"/tasks/{UPID}/stop", 409)


async def test_what_is_started_answers_its_upid(ask: Any, context: FakeContext) -> None:
    run = {"store": "main", "sources": ["etc.tree:/etc"]}
    assert (await ask("POST", "/backups", json=run)).json() == {"upid": UPID}
    assert context.asked[-1] == ("start_backup", OWNER, BackupRun(store="main", sources=["etc.tree:/etc"]))
    assert (await ask("POST", "/datastores/main/verify", json={"namespace": "a"})).json() == {"upid": UPID}
    assert context.asked[-1] == ("start_verify", OWNER, "main", VerifyStart(namespace="a"))
    assert (await ask("POST", "/datastores/main/cleanup")).json() == {"upid": UPID}
    assert context.asked[-1] == ("start_cleanup", OWNER, "main")


async def test_the_worker_and_the_last_verifications(ask: Any) -> None:
    assert "slots" in (await ask("GET", "/worker/status")).json()
    assert len((await ask("GET", "/verify/status")).json()) == 1
    assert len((await ask("GET", "/verify/outlook?window_days=7")).json()) == 1
    await ask("GET", "/verify/outlook?window_days=x", 400)
    assert "chunks" in (await ask("GET", "/datastores/main/damage")).json()


async def test_system_rights_alone_write_no_backup(served: Served, context: FakeContext) -> None:
    """Whoever may run things on the server still needs Datastore.Backup where the backup goes."""
    context.access.rules.clear()
    only = context.access.grant("a@ibs!t", "Admin", "/system")
    async with served.http(only) as http:
        answer = await http.post("/backups", json={"store": "main", "sources": ["etc.tree:/etc"]})
    assert answer.status_code == 403
    assert answer.json()["details"]["path"] == "/datastore/main"
    assert context.asked == []


async def test_more_filters_and_a_retry(ask: Any, context: FakeContext) -> None:
    await ask("GET", "/tasks?host=web01&user=a@ibs&job=nightly&since=1970-01-01T00:00:01Z")
    wanted = TaskFilter(host="web01", user="a@ibs", job="nightly", since_ns=1_000_000_000)
    assert context.asked[-1] == ("list", "", "", "", 50, wanted)
    await ask("GET", "/tasks?since=yesterday", 400)
    assert (await ask("POST", f"/tasks/{UPID}/retry")).json() == {"upid": UPID}
    assert context.asked[-1][0] == "retry_task"
    await ask("POST", "/tasks/UPID:none/retry", 404)


async def test_mending_needs_rights_on_both_sides(ask: Any, context: FakeContext) -> None:
    wish = {"repair_from": "site-b:replica"}
    assert (await ask("POST", "/datastores/main/verify", json=wish)).json() == {"upid": UPID}
    asked: list[tuple[object, ...]] = []
    context.access.require = lambda who, privilege, path: asked.append((privilege, path))  # type: ignore[method-assign]
    await ask("POST", "/datastores/main/verify", json=wish)
    assert (Privilege.DATASTORE_MODIFY, "/datastore/main") in asked
    assert (Privilege.REMOTE_READ, "/remote/site-b") in asked
    await ask("POST", "/datastores/main/verify", 400, json={"repair_from": "nowhere"})
