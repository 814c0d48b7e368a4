"""Who sees and who changes who is told."""

from __future__ import annotations

from ibs.control.app import create_app
from ibs.control.routes import notifications
from ibs_tests.support.control import Certificates, FakeContext, serving


async def test_rights(certificates: Certificates) -> None:
    context = FakeContext()
    admin = context.access.grant("a@ibs!t", "Admin", "/")
    auditor = context.access.grant("b@ibs!t", "Audit", "/")
    app = create_app(context, tuple(notifications.routes))  # type: ignore[arg-type]
    body = {"name": "chat", "spec": {"kind": "webhook"}}
    async with serving(app, certificates) as served:
        async with served.http(auditor) as http:
            for noun in ("targets", "targets/chat", "groups", "rules", "history", "history/1"):
                assert (await http.get(f"/notifications/{noun}")).status_code == 200
            assert (await http.post("/notifications/targets", json=body)).status_code == 403
            assert (await http.post("/notifications/targets/chat/test", json={})).status_code == 403
            assert (await http.delete("/notifications/rules/r")).status_code == 403
        async with served.http(admin) as http:
            assert (await http.post("/notifications/targets", json=body)).status_code == 200
            assert (await http.post("/notifications/targets/other", json=body)).status_code == 400
            assert (await http.post("/notifications/targets/chat/enable")).status_code == 200
            assert (await http.post("/notifications/targets/chat/test", json={"recipient": "x"})).status_code == 200
            assert context.asked[-1] == ("test", "chat", "x")
            assert (await http.delete("/notifications/targets/chat")).status_code == 204
            assert (await http.get("/notifications/history/one")).status_code == 400
