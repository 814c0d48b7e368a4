"""Who sees the register, who changes it."""

from __future__ import annotations

import msgspec

from ibs.control.app import create_app
from ibs.control.routes import keys
from ibs.core import publickey
from ibs.core.keys import DataKeys
from ibs.wire.keys import KeyRegister
from ibs_tests.support.control import Certificates, FakeContext, serving

BODY = msgspec.to_builtins(KeyRegister(key=publickey.describe(DataKeys.from_root(bytes(32)))))


async def test_rights(certificates: Certificates) -> None:
    context = FakeContext()
    admin = context.access.grant("a@ibs!t", "Admin", "/")
    auditor = context.access.grant("b@ibs!t", "Audit", "/")
    app = create_app(context, tuple(keys.routes))  # type: ignore[arg-type]
    async with serving(app, certificates) as served:
        async with served.http(auditor) as http:
            assert (await http.get("/keys")).status_code == 200
            assert (await http.get("/keys/aa:bb")).status_code == 200
            assert (await http.get("/keys/aa:bb/public")).status_code == 200
            assert (await http.get("/key-policies")).status_code == 200
            assert (await http.post("/keys", json=BODY)).status_code == 403
            assert (await http.post("/keys/aa:bb/retire")).status_code == 403
            assert (await http.delete("/keys/aa:bb")).status_code == 403
            assert (await http.post("/key-policies", json={"datastore": "main"})).status_code == 403
            assert (await http.delete("/key-policies", params={"datastore": "main"})).status_code == 403
        async with served.http(admin) as http:
            assert (await http.post("/keys", json=BODY)).status_code == 201
            assert (await http.post("/keys/aa:bb/retire")).status_code == 200
            assert (await http.post("/keys/aa:bb/retire", params={"force": "1"})).status_code == 200
            assert [call[-1] for call in context.asked if call[0] == "retire"] == [False, True]
            assert (await http.delete("/keys/aa:bb")).status_code == 204
            assert (await http.post("/key-policies", json={"datastore": "main"})).status_code == 200
            assert (await http.delete("/key-policies", params={"datastore": "main"})).status_code == 204
            assert context.asked[-1] == ("unset_policy", "main", "")
