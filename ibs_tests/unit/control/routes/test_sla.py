"""Who sees and who sets what is expected."""

from __future__ import annotations

from ibs.control.app import create_app
from ibs.control.routes import sla
from ibs_tests.support.control import Certificates, FakeContext, serving


async def test_rights(certificates: Certificates) -> None:
    context = FakeContext()
    admin = context.access.grant("a@ibs!t", "Admin", "/")
    auditor = context.access.grant("b@ibs!t", "Audit", "/")
    app = create_app(context, tuple(sla.routes))  # type: ignore[arg-type]
    async with serving(app, certificates) as served:
        async with served.http(auditor) as http:
            assert (await http.get("/sla", params={"store": "main"})).status_code == 200
            assert context.asked[-1] == ("list", "main")
            assert (await http.post("/sla", json={"group": "host/a"})).status_code == 403
            assert (await http.delete("/sla", params={"group": "host/a"})).status_code == 403
        async with served.http(admin) as http:
            assert (await http.post("/sla", json={"group": "host/a"})).status_code == 200
            assert (await http.delete("/sla", params={"group": "host/a"})).status_code == 204
            assert context.asked[-1] == ("unset", "", "host/a")
