"""Who sees, uses and changes remotes."""

from __future__ import annotations

from ibs.control.app import create_app
from ibs.control.routes import remotes
from ibs_tests.support.control import Certificates, FakeContext, serving


async def test_rights(certificates: Certificates) -> None:
    context = FakeContext()
    admin = context.access.grant("a@ibs!t", "Admin", "/")
    auditor = context.access.grant("b@ibs!t", "Remote.Audit", "/remote")
    nobody = context.access.grant("c@ibs!t", "Datastore.Audit", "/")
    app = create_app(context, tuple(remotes.routes))  # type: ignore[arg-type]
    async with serving(app, certificates) as served:
        async with served.http(nobody) as http:
            assert (await http.get("/remotes")).json() == []
            assert (await http.get("/remotes/b")).status_code == 403
        async with served.http(auditor) as http:
            assert len((await http.get("/remotes")).json()) == 1
            assert (await http.get("/remotes/b")).status_code == 200
            assert (await http.post("/remotes", json={"name": "b"})).status_code == 403
            assert (await http.post("/remotes/b", json={"name": "b"})).status_code == 403
            assert (await http.post("/remotes/b/test")).status_code == 403
            assert (await http.delete("/remotes/b")).status_code == 403
        async with served.http(admin) as http:
            assert (await http.post("/remotes", json={"name": "b"})).status_code == 201
            assert (await http.post("/remotes/b", json={"name": "other", "comment": "x"})).status_code == 200
            assert context.asked[-1][0] == "update"
            assert (await http.post("/remotes/b/test")).status_code == 200
            assert (await http.delete("/remotes/b")).status_code == 204
