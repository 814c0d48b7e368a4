"""Who may bring what from where: a right on the datastore here, and one on the remote."""

from __future__ import annotations

from ibs.control.app import create_app
from ibs.control.routes import sync
from ibs_tests.support.control import Certificates, FakeContext, serving

BODY = {"remote": "site-b", "source": "replica"}


async def test_rights(certificates: Certificates) -> None:
    context = FakeContext()
    both = context.access.grant("a@ibs!t", "Admin", "/")
    store = context.access.grant("b@ibs!t", "Datastore.Admin", "/datastore/main")
    far = context.access.grant("c@ibs!t", "Remote.SyncOperator", "/remote")
    app = create_app(context, tuple(sync.routes))  # type: ignore[arg-type]
    async with serving(app, certificates) as served:
        for who, status in ((store, 403), (far, 403), (both, 200)):
            async with served.http(who) as http:
                assert (await http.post("/datastores/main/pull", json=BODY)).status_code == status
        assert context.asked[-1][0] == "pull"
