"""Who reads the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ibs.control.app import create_app
from ibs.control.routes import audit
from ibs.wire.audit import AuditCheck, AuditView
from ibs_tests.support.control import Certificates, FakeContext, serving

ROW = AuditView(n=1, time="t", auth_id="", peer="", action="a", target="/", outcome="ok")


class Log:
    asked: Any = None

    async def find(self, wanted: dict[str, str], limit: int) -> list[AuditView]:
        self.asked = wanted, limit
        return [ROW]

    async def show(self, n: int) -> AuditView:
        return ROW

    async def verify(self) -> AuditCheck:
        return AuditCheck(ok=True, rows=1, files=1)

    async def export(self) -> AsyncIterator[bytes]:
        yield b"{}\n"

    async def note(self, **facts: Any) -> None:
        pass


async def test_only_auditors(certificates: Certificates) -> None:
    context, log = FakeContext(), Log()
    context.audit = log  # type: ignore[assignment]
    auditor = context.access.grant("a@ibs!t", "Audit", "/system")
    other = context.access.grant("b@ibs!t", "Datastore.Admin", "/datastore")
    app = create_app(context, tuple(audit.routes))  # type: ignore[arg-type]
    async with serving(app, certificates) as served:
        async with served.http(other) as http:
            for path in ("rows", "rows/1", "check", "export"):
                assert (await http.get(f"/audit/{path}")).status_code == 403
        async with served.http(auditor) as http:
            assert (await http.get("/audit/rows", params={"who": "a", "limit": "3"})).json()[0]["n"] == 1
            assert log.asked[1] == 3
            assert log.asked[0]["who"] == "a"
            assert (await http.get("/audit/rows", params={"outcome": "x"})).status_code == 400
            assert (await http.get("/audit/rows/x")).status_code == 400
            assert (await http.get("/audit/rows/1")).json()["action"] == "a"
            assert (await http.get("/audit/check")).json()["ok"] is True
            assert (await http.get("/audit/export")).content == b"{}\n"
