"""What becomes a row, and that a change which cannot be one does not happen."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.control.app import create_app
from ibs.control.auditing import TRAFFIC
from ibs.control.routes import ALL
from ibs.control.routing import Call, Routes, needs
from ibs.core.access import Privilege
from ibs.errors import ConflictError, NoSpace
from ibs.wire.common import Ping
from ibs_tests.support.control import Certificates, FakeContext, serving

ROWS = Routes("test")
DONE: list[str] = []
_ACCESS = needs(Privilege.SYSTEM_MODIFY, "/system")


@ROWS.route("POST", "/things/{thing}", access=_ACCESS, body=Ping)
async def thing_change(call: Call) -> None:
    """Change."""
    if call.path["thing"] == "bad":
        raise ConflictError("it is there")
    DONE.append(call.path["thing"])
    if call.path["thing"] == "told":
        call.audit = {"before": 1, "after": 2}


@ROWS.route("GET", "/things/{thing}", access=_ACCESS)
async def thing_show(call: Call) -> None:
    """Show."""


class Kept:
    """An audit log that keeps rows in memory."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.full = False
        self.torn = False

    async def admit(self) -> None:
        if self.full:
            raise NoSpace("/state", "bytes")

    async def note(self, **facts: Any) -> None:
        if self.torn:
            raise NoSpace("/state", "bytes")
        self.rows.append(facts)


BODY = {"product": "p", "version": "v", "api": "a"}


async def test_what_is_made_is_named(certificates: Certificates) -> None:
    context, kept = FakeContext(), Kept()
    context.audit = kept  # type: ignore[assignment]
    root = context.access.grant("a@ibs!t", "Admin", "/")
    async with serving(create_app(context, ALL), certificates) as served, served.http(root) as http:  # type: ignore[arg-type]
        await http.post("/access/users", json={"auth_id": "anna@ibs"})
        await http.post("/datastores", json={"name": "main", "path": "/srv/main"})
        await http.post("/logout")
    assert [(row["action"], row["target"]) for row in kept.rows] == [
        ("user_create", "anna@ibs"),
        ("datastore_create", "main"),
        ("logout", "/logout"),
    ]


async def test_rows(certificates: Certificates) -> None:
    context, kept = FakeContext(), Kept()
    context.audit = kept  # type: ignore[assignment]
    root = context.access.grant("a@ibs!t", "Admin", "/")
    weak = context.access.grant("b@ibs!t", "Audit", "/datastore")
    app = create_app(context, tuple(ROWS))  # type: ignore[arg-type]
    async with serving(app, certificates) as served:
        async with served.http(root) as http:
            await http.get("/things/one")
            await http.post("/things/one", json=BODY)
            await http.post("/things/told", json=BODY)
            await http.post("/things/bad", json=BODY)
        async with served.http(weak) as http:
            assert (await http.get("/things/one")).status_code == 403
        seen = [(row["auth_id"], row["action"], row["target"], str(row["outcome"])) for row in kept.rows]
        assert seen == [
            ("a@ibs!t", "thing_change", "one", "ok"),
            ("a@ibs!t", "thing_change", "told", "ok"),
            ("a@ibs!t", "thing_change", "bad", "failed"),
            ("b@ibs!t", "thing_show", "one", "refused"),
        ]
        assert kept.rows[0]["after"] == BODY
        assert (kept.rows[1]["before"], kept.rows[1]["after"]) == (1, 2)


async def test_no_row_no_change(certificates: Certificates) -> None:
    context, kept = FakeContext(), Kept()
    context.audit = kept  # type: ignore[assignment]
    root = context.access.grant("a@ibs!t", "Admin", "/")
    app = create_app(context, tuple(ROWS))  # type: ignore[arg-type]
    async with serving(app, certificates) as served, served.http(root) as http:
        kept.full = True
        refused = await http.post("/things/never", json=BODY)
        assert refused.status_code == 507
        assert "never" not in DONE
        assert (await http.get("/things/one")).status_code == 204
        kept.full, kept.torn = False, True
        told = await http.post("/things/late", json=BODY)
        assert "was done, but cannot be written into the audit log" in told.json()["message"]


@pytest.mark.parametrize("name", sorted(TRAFFIC))
def test_what_is_left_out_exists(name: str) -> None:
    assert name in {route.operation for route in ALL if route.method != "GET"}
