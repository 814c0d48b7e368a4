"""Who sees and who sets schedules."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.control.app import create_app
from ibs.control.routes import schedules
from ibs.wire.schedule import ScheduleSet
from ibs_tests.support.control import Certificates, FakeContext, serving

BODY = {"kind": "verify", "when": "daily"}


@pytest.mark.parametrize(
    ("role", "path", "sees", "sets"),
    [
        ("Datastore.Admin", "/datastore/main", True, True),
        ("Datastore.Audit", "/datastore/main", True, False),
        ("Datastore.Backup", "/datastore/main", False, False),
        ("Datastore.Admin", "/datastore/other", False, False),
    ],
)
async def test_rights(certificates: Certificates, role: str, path: str, sees: bool, sets: bool) -> None:
    context = FakeContext()
    credential = context.access.grant("a@ibs!t", role, path)
    app = create_app(context, tuple(schedules.routes))  # type: ignore[arg-type]
    async with serving(app, certificates) as served, served.http(credential) as http:
        shown = await http.get("/schedules/datastores", params={"store": "main"})
        assert shown.status_code == (200 if sees else 403)
        made = await http.post("/datastores/main/schedules", json=BODY)
        assert made.status_code == (200 if sets else 403)
        gone = await http.delete("/datastores/main/schedules", params={"kind": "verify"})
        assert gone.status_code == (204 if sets else 403)
    asked: list[Any] = [one for one in context.asked if one[0] in {"set", "unset"}]
    assert asked == (
        [("set", "main", "a@ibs!t", ScheduleSet(**BODY)), ("unset", "main", "a@ibs!t", "verify", "")] * sets
    )


async def test_a_list_of_all_is_filtered(certificates: Certificates) -> None:
    context = FakeContext()
    credential = context.access.grant("a@ibs!t", "Datastore.Audit", "/datastore/main")
    app = create_app(context, tuple(schedules.routes))  # type: ignore[arg-type]
    async with serving(app, certificates) as served, served.http(credential) as http:
        assert (await http.get("/schedules/datastores")).status_code == 200
    sees = context.asked[-1][1]
    assert [sees("main"), sees("other")] == [True, False]
