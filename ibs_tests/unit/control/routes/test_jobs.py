"""Jobs over the API: who may, what reaches the desk, and what a job's own rights are."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.control.app import create_app
from ibs.control.routes import jobs
from ibs.wire.jobs import TaskKeeping
from ibs_tests.support.control import UPID, Certificates, FakeContext, serving

SPEC = {"store": "main", "sources": ["etc.tree:/etc"]}


async def test_everything_reaches_the_desk(ask: Any, context: FakeContext) -> None:
    await ask("GET", "/jobs")
    await ask("GET", "/jobs/nightly")
    assert (await ask("POST", "/jobs/nightly/run")).json() == {"upids": [UPID]}
    assert context.asked[-1] == ("run", "nightly")
    assert (await ask("GET", "/calendar?days=3")).json() == []
    assert context.asked[-1] == ("calendar", 3)
    await ask("DELETE", "/jobs/nightly", 204)
    assert context.asked[-1][0] == "remove"
    await ask("GET", "/calendar?days=9999", 400)
    await ask("GET", "/worker/task-keeping")
    assert context.asked[-1] == ("task_keeping", None)


@pytest.mark.parametrize(
    ("grants", "retention", "status"),
    [
        ([("Admin", "/")], True, 200),
        ([("Admin", "/system")], False, 403),
        ([("Admin", "/system"), ("Datastore.Backup", "/datastore/main")], False, 200),
        ([("Admin", "/system"), ("Datastore.Backup", "/datastore/main")], True, 403),
        ([("Datastore.Admin", "/datastore/main")], False, 403),
    ],
)
async def test_who_makes_a_job_needs_what_it_does(
    certificates: Certificates, grants: list[tuple[str, str]], retention: bool, status: int
) -> None:
    context = FakeContext()
    credential = ""
    for role, path in grants:
        credential = context.access.grant("a@ibs!t", role, path)
    spec = SPEC | ({"retention": {"keep_last": 3}} if retention else {})
    app = create_app(context, tuple(jobs.routes))  # type: ignore[arg-type]
    async with serving(app, certificates) as served, served.http(credential) as http:
        made = await http.post("/jobs", json={"name": "nightly", "spec": spec})
        assert made.status_code == status
        changed = await http.post("/jobs/nightly", json={"spec": spec})
        assert changed.status_code == status
    assert [one[0] for one in context.asked] == ["create", "update"] * (status == 200)


async def test_slots_and_keeping(ask: Any, context: FakeContext) -> None:
    assert TaskKeeping().days == 0
    await ask("GET", "/worker/task-keeping")
    assert context.asked[-1] == ("task_keeping", None)
