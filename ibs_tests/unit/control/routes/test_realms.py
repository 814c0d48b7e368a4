"""The realms' routes pass on what was given, and their answers hold no secret."""

from __future__ import annotations

from typing import Any

from ibs.errors import NotFoundError
from ibs.wire.realms import RealmSet
from ibs_tests.support.control import FakeContext


async def test_what_is_passed_on(ask: Any, context: FakeContext) -> None:
    wish = {"name": "corp", "uri": "ldaps://x", "template": "uid={user},dc=x", "secret": "s3cret"}
    made = await ask("POST", "/realms", 201, json=wish)
    assert context.asked[-1] == ("create", RealmSet(**wish))
    assert "secret" not in made.json()
    assert isinstance((await ask("GET", "/realms")).json(), list)
    await ask("GET", "/realms/corp")
    assert context.asked[-1] == ("show", "corp")
    await ask("POST", "/realms/corp", json={"name": "other", "uri": "ldaps://y"})
    assert context.asked[-1] == ("update", RealmSet(name="corp", uri="ldaps://y"))
    await ask("POST", "/realms/corp/test")
    assert context.asked[-1] == ("test", "corp")
    await ask("DELETE", "/realms/corp", 204)
    assert context.asked[-1] == ("remove", "corp")
    context.realms.answers["show"] = NotFoundError("no realm corp")
    await ask("GET", "/realms/corp", 404)
