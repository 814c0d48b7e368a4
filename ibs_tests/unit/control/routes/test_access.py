"""Users, tokens, rights: who changes is passed on; a token's secret is in one answer only."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.errors import ConflictError, NotFoundError
from ibs.wire.system import AclEntry, TokenCreate, UserCreate
from ibs_tests.support.control import OWNER, FakeContext


async def test_users(ask: Any, context: FakeContext) -> None:
    assert len((await ask("GET", "/access/users")).json()) == 1
    await ask("POST", "/access/users", 201, json={"auth_id": "a@ibs"})
    assert context.asked[-1] == ("create_user", OWNER, UserCreate(auth_id="a@ibs"))
    context.identities.answers["create_user"] = ConflictError("user a@ibs exists")
    assert (await ask("POST", "/access/users", 409, json={"auth_id": "a@ibs"})).json()["code"] == "conflict"


async def test_tokens(ask: Any, context: FakeContext) -> None:
    made = await ask("POST", "/access/tokens", 201, json={"auth_id": "a@ibs!t", "expires": "2027-01-01T00:00:00Z"})
    assert "secret" in made.json()
    wanted = TokenCreate(auth_id="a@ibs!t", expires="2027-01-01T00:00:00Z")
    assert context.asked[-1] == ("create_token", OWNER, wanted)
    assert "secret" not in (await ask("GET", "/access/tokens")).json()[0]
    await ask("DELETE", "/access/tokens/a@ibs!t", 204)
    assert context.asked[-1] == ("remove_token", OWNER, "a@ibs!t")
    context.identities.answers["remove_token"] = NotFoundError("no token")
    await ask("DELETE", "/access/tokens/a@ibs!t", 404)


async def test_acl(ask: Any, context: FakeContext) -> None:
    assert len((await ask("GET", "/access/acl")).json()) == 1
    entry = {"path": "/datastore/main", "role": "Audit", "auth_id": "a@ibs", "propagate": False}
    await ask("POST", "/access/acl", 201, json=entry)
    wanted = AclEntry(path="/datastore/main", role="Audit", auth_id="a@ibs", propagate=False)
    assert context.asked[-1] == ("grant", OWNER, wanted)
    query = {"path": "/datastore/main", "role": "Audit", "auth_id": "a@ibs"}
    await ask("DELETE", "/access/acl", 204, params=query)
    assert context.asked[-1] == ("revoke", OWNER, "/datastore/main", "Audit", "a@ibs")
    await ask("DELETE", "/access/acl?path=/&path=/", 400)


async def test_identities_are_kept_out_and_let_in_again(ask: Any, context: FakeContext) -> None:
    assert "comment" in (await ask("POST", "/access/users/a@ibs", 200, json={"enabled": False})).json()
    assert ("set_user", OWNER, "a@ibs", False) in context.asked
    assert "last_used" in (await ask("POST", "/access/tokens/a@ibs!t", 200, json={"enabled": True})).json()
    assert ("set_token", OWNER, "a@ibs!t", True) in context.asked
    context.identities.answers["set_user"] = NotFoundError("no user")
    await ask("POST", "/access/users/b@ibs", 404, json={"enabled": False})
    await ask("POST", "/access/users/a@ibs", 400, json={})


@pytest.mark.parametrize(
    ("path", "warned"),
    [
        ("/datastore/main/a", False),
        ("/datastore", False),
        ("/", False),
        ("/system", False),
        ("/datastore/mian/a", True),
    ],
)
async def test_a_grant_below_no_datastore_is_warned_of(ask: Any, context: FakeContext, path: str, warned: bool) -> None:
    entry = AclEntry(path=path, role="Audit", auth_id="a@ibs")
    context.identities.answers["grant"] = entry
    answer = await ask("POST", "/access/acl", 201, json={"path": path, "role": "Audit", "auth_id": "a@ibs"})
    assert ("datastore mian does not exist; there is main, other" in answer.json()["warning"]) is warned
