"""Whose groups the lifecycle routes hand on, and what is never reached."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.control.app import create_app
from ibs.control.routes import lifecycle
from ibs.core.names import Namespace
from ibs_tests.support.control import Certificates, FakeContext, serving

SNAPSHOT = "host/a/2026-11-22T19:00:00Z"
POWER, BACKUP = "power@ibs!t", "backup@ibs!t"


async def send(context: FakeContext, certificates: Certificates, credential: str, path: str, body: Any) -> int:
    app = create_app(context, tuple(lifecycle.routes))  # type: ignore[arg-type]
    async with serving(app, certificates) as served, served.http(credential) as http:
        return (await http.post(path, json=body)).status_code


@pytest.fixture
def context() -> FakeContext:
    made = FakeContext()
    made.access.grant(POWER, "Datastore.PowerUser", "/datastore/main/a")
    made.access.grant(BACKUP, "Datastore.Backup", "/datastore/main")
    made.access.grant("boss@ibs!t", "Datastore.Admin", "/datastore/main")
    return made


async def test_a_backup_role_never_deletes(context: FakeContext, certificates: Certificates) -> None:
    bodies: dict[str, Any] = {
        "snapshot/forget": {"snapshot": SNAPSHOT},
        "prune": {"policy": {"keep_last": 1}},
        "prune/simulate": {},
        "bin/undo": {"entry": SNAPSHOT},
        "bin/empty": {},
        "snapshot": {"snapshot": SNAPSHOT, "protected": False},
        "namespaces/remove": {"namespace": "a"},
        "retention": {"policy": {"keep_last": 1}},
        "groups/owner": {"group": "host/a", "owner": BACKUP},
        "clock/confirm": None,
    }
    for path, body in bodies.items():
        assert await send(context, certificates, f"{BACKUP}:secret", f"/datastores/main/{path}", body) == 403, path
    assert context.asked == []
    body = {"snapshot": SNAPSHOT, "protected": True}
    assert await send(context, certificates, f"{BACKUP}:secret", "/datastores/main/snapshot", body) == 200
    assert context.asked[0][-1] == BACKUP


async def test_a_power_user_reaches_its_own_groups_in_its_namespace_only(
    context: FakeContext, certificates: Certificates
) -> None:
    inside, outside = {"snapshot": f"ns:a/b/{SNAPSHOT}"}, {"snapshot": SNAPSHOT}
    assert await send(context, certificates, f"{POWER}:secret", "/datastores/main/snapshot/forget", outside) == 403
    assert context.asked == []
    assert await send(context, certificates, f"{POWER}:secret", "/datastores/main/snapshot/forget", inside) == 200
    assert context.asked[0][-1] == POWER
    body = {"namespace": "a", "policy": {"keep_last": 1}}
    assert await send(context, certificates, f"{POWER}:secret", "/datastores/main/prune", body) == 200
    may = context.asked[1][-1]
    a, root = Namespace.parse("a"), Namespace()
    assert [may(a, POWER), may(a, BACKUP), may(root, POWER), may(a, "")] == [True, False, False, False]


async def test_an_administrator_reaches_all(context: FakeContext, certificates: Certificates) -> None:
    body = {"snapshot": SNAPSHOT}
    assert await send(context, certificates, "boss@ibs!t:secret", "/datastores/main/snapshot/forget", body) == 200
    assert context.asked[0][-1] == ""
    assert await send(context, certificates, "boss@ibs!t:secret", "/datastores/main/prune", {}) == 200
    assert context.asked[1][-1](Namespace(), "anybody@ibs")


async def test_lists_are_filtered_by_what_the_caller_may_see_wherever_that_is(
    context: FakeContext, certificates: Certificates
) -> None:
    context.access.grant("reader@ibs!t", "Datastore.Audit", "/datastore/other/a")
    app = create_app(context, tuple(lifecycle.routes))  # type: ignore[arg-type]
    async with serving(app, certificates) as served:
        async with served.http(f"{POWER}:secret") as http:
            for path in ("bin", "namespaces"):
                assert (await http.get(f"/datastores/main/{path}")).status_code == 200, path
                refused = await http.get(f"/datastores/elsewhere/{path}")
                assert (refused.status_code, refused.json()["code"]) == (403, "not-authorised")
            assert (await http.post("/datastores/main/bin/undo", json={"entry": "0" * 32})).status_code == 200
        async with served.http(f"{BACKUP}:secret") as http:
            assert (await http.post("/datastores/main/bin/undo", json={"entry": "0" * 32})).status_code == 403
    may, sees = context.asked[0][-1], context.asked[1][-1]
    assert [may(Namespace.parse("a"), POWER), may(Namespace(), POWER)] == [True, False]
    assert [sees(Namespace.parse("a/b")), sees(Namespace())] == [True, False]
