"""Who may change how somebody logs in: an administrator, or the person; never a token of the person."""

from __future__ import annotations

from typing import Any

from ibs.wire.access import LoginRequest
from ibs_tests.support.control import OWNER, FakeContext, Served

USER = OWNER.partition("!")[0]


async def test_login_needs_no_credential(served: Served, context: FakeContext) -> None:
    async with served.http("") as http:
        answer = await http.post("/login", json={"auth_id": "a@ibs", "password": "p"})
    assert answer.status_code == 200
    assert context.asked[-1][:2] == ("log_in", LoginRequest(auth_id="a@ibs", password="p"))


async def test_an_administrator_sets_up_others(ask: Any, context: FakeContext) -> None:
    await ask("POST", "/access/logins/a@ibs/password", 200, json={"password": "a long one"})
    assert context.asked[-1] == ("set_password", OWNER, "a@ibs", "a long one")
    await ask("POST", "/access/logins/a@ibs/totp")
    assert context.asked[-1] == ("enable_totp", OWNER, "a@ibs")
    await ask("DELETE", "/access/logins/a@ibs/totp")
    assert context.asked[-1] == ("disable_totp", OWNER, "a@ibs")
    assert "password" in (await ask("GET", "/access/logins/a@ibs")).json()
    await ask("POST", "/logout", 204)
    assert context.asked[-1] == ("log_out", OWNER)


async def test_a_person_its_own_and_its_token_nothing(served: Served, context: FakeContext) -> None:
    context.access.rules.clear()
    for caller, status in ((USER, 200), (OWNER, 403), ("other@ibs", 403)):
        async with served.http(context.access.token(caller)) as http:
            body = {"password": "a long one"}
            assert (await http.post(f"/access/logins/{USER}/password", json=body)).status_code == status, caller
            assert (await http.post(f"/access/logins/{USER}/totp")).status_code == status
            assert (await http.delete(f"/access/logins/{USER}/totp")).status_code == status
    async with served.http(context.access.token(OWNER)) as http:
        assert (await http.post(f"/access/logins/{OWNER}/totp")).status_code == 403
