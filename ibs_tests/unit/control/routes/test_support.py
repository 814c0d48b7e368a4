"""Who gets a bundle."""

from __future__ import annotations

from ibs.control.app import create_app
from ibs.control.routes import support
from ibs_tests.support.control import UPID, Certificates, FakeContext, serving


async def test_only_administrators(certificates: Certificates) -> None:
    context = FakeContext()
    admin = context.access.grant("a@ibs!t", "Admin", "/")
    other = context.access.grant("b@ibs!t", "Audit", "/")
    app = create_app(context, tuple(support.routes))  # type: ignore[arg-type]
    async with serving(app, certificates) as served:
        async with served.http(other) as http:
            assert (await http.post("/support/bundles", json={})).status_code == 403
            assert (await http.get(f"/support/bundles/{UPID}")).status_code == 403
        async with served.http(admin) as http:
            assert (await http.post("/support/bundles", json={"tasks": []})).json() == {"upid": UPID}
            assert (await http.get(f"/support/bundles/{UPID}")).content == b"bundle"
