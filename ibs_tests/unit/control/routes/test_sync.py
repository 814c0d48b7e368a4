"""Who may bring what from where: a right on the datastore here, and one on the remote."""

from __future__ import annotations

from ibs.control.app import create_app
from ibs.control.routes import sync
from ibs.wire.sync import SyncJobView, SyncSpec
from ibs_tests.support.control import Certificates, FakeContext, serving

BODY = {"remote": "site-b", "source": "replica"}
JOB = {"name": "nightly", "spec": {**BODY, "store": "main"}}


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


async def test_whoever_makes_changes_or_runs_a_job_needs_the_rights_of_its_copies(certificates: Certificates) -> None:
    context = FakeContext()
    view = SyncJobView(name="nightly", spec=SyncSpec(remote="site-b", source="replica", store="main"), enabled=True)
    context.sync_jobs.answers["show"] = view
    every = context.access.grant("a@ibs!t", "Admin", "/")
    system = context.access.grant("b@ibs!t", "Admin", "/system")
    app = create_app(context, tuple(sync.routes))  # type: ignore[arg-type]
    moved = {"spec": {**BODY, "store": "other"}}
    async with serving(app, certificates) as served:
        for who, status in ((system, 403), (every, 200)):
            async with served.http(who) as http:
                assert (await http.get("/sync-jobs")).status_code == 200
                assert (await http.get("/sync-jobs/nightly/status")).status_code == 200
                assert (await http.post("/sync-jobs", json=JOB)).status_code == status
                assert (await http.post("/sync-jobs/nightly", json={"enabled": False})).status_code == status
                assert (await http.post("/sync-jobs/nightly", json=moved)).status_code == status
                assert (await http.post("/sync-jobs/nightly/run")).status_code == status
        async with served.http(every) as http:
            assert (await http.delete("/sync-jobs/nightly")).status_code == 204
