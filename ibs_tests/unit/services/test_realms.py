"""Realms: kept whole and sealed, asked only where they were given for, and away in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from ibs.core.access import AuthId, check_auth_id
from ibs.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from ibs.runtime.pool import InlinePool
from ibs.security.secrets import load_secrets
from ibs.services import realms as module
from ibs.services.realms import Realms
from ibs.wire.realms import RealmSet
from ibs.wire.system import UserView
from ibs_tests.unit.services.conftest import House

TEMPLATE = "uid={user},ou=people,dc=corp"
CORP = RealmSet(name="corp", uri="ldaps://ldap.corp", template=TEMPLATE)
SEARCH = RealmSet(name="corp", uri="ldaps://ldap.corp", base="dc=corp", bind_dn="cn=reader,dc=corp", secret="s3cret")


class People:
    """Stands for the identities: which users there are."""

    def __init__(self) -> None:
        self.known_realm: Any = None
        self.all: list[UserView] = []

    async def users(self) -> list[UserView]:
        return self.all


class Asked:
    """Stands for conversations with directories."""

    answer: bool | Exception = True
    directories: ClassVar[list[Any]] = []

    def __init__(self, directory: Any) -> None:
        self.directories.append(directory)

    def abort(self) -> None:
        pass

    def takes(self, user: str, password: str) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer and (user, password) == ("anna", "right")

    def try_out(self) -> None:
        self.takes("", "")


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def desk(house: House, people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Realms:
    monkeypatch.setattr(module, "Conversation", Asked)
    monkeypatch.setattr(Asked, "answer", True)
    monkeypatch.setattr(Asked, "directories", [])
    return Realms(house.catalog, load_secrets(tmp_path / "state"), people, InlinePool())  # type: ignore[arg-type]


def who(text: str) -> AuthId:
    return check_auth_id(text)


async def test_kept_shown_and_forgotten(desk: Realms, people: People) -> None:
    made = await desk.create(CORP)
    assert (made.name, made.kind, made.uri, made.template) == ("corp", "ldap", "ldaps://ldap.corp", TEMPLATE)
    assert await desk.list() == [made]
    assert await desk.show("corp") == made
    assert await people.known_realm("corp")
    assert not await people.known_realm("other")
    with pytest.raises(ConflictError, match="exists already"):
        await desk.create(CORP)
    people.all = [UserView(auth_id="anna@corp", enabled=True)]
    with pytest.raises(ConflictError, match=r"anna@corp"):
        await desk.remove("corp")
    people.all = [UserView(auth_id="anna@ibs", enabled=True)]
    await desk.remove("corp")
    assert await desk.list() == []
    for call in (desk.show("corp"), desk.remove("corp"), desk.test("corp"), desk.update(CORP)):
        with pytest.raises(NotFoundError):
            await call


@pytest.mark.parametrize(
    "wrong",
    [
        RealmSet(name="ibs", uri="ldaps://x", template=TEMPLATE),
        RealmSet(name="a b", uri="ldaps://x", template=TEMPLATE),
        RealmSet(name="corp", uri="http://x", template=TEMPLATE),
        RealmSet(name="corp", uri="ldaps://x"),
        RealmSet(name="corp", uri="ldaps://x", template="uid=anna"),
        RealmSet(name="corp", uri="ldaps://x", template=TEMPLATE, base="dc=x"),
        RealmSet(name="corp", uri="ldaps://x", base="dc=x"),
        RealmSet(name="corp", uri="ldaps://x\n", template=TEMPLATE),
        RealmSet(name="corp", uri="ldaps://x", template=TEMPLATE, ca="nonsense"),
    ],
    ids=str,
)
async def test_what_could_never_work_is_not_kept(desk: Realms, wrong: RealmSet) -> None:
    with pytest.raises((UsageError, ConflictError)):
        await desk.create(wrong)
    assert await desk.list() == []


async def test_the_password_it_binds_with_is_sealed_and_goes_nowhere_else(
    desk: Realms, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.create(SEARCH)
    assert "s3cret" not in (await house.catalog.settings.get("realms") or "")
    assert "s3cret" not in repr(await desk.show("corp"))
    await desk.test("corp")
    assert Asked.directories[-1].bind_password == "s3cret"
    for change in ({"uri": "ldaps://evil"}, {"bind_dn": "cn=other,dc=corp"}, {"ca": ""}):
        request = RealmSet(name="corp", **change)
        if change == {"ca": ""}:
            await desk.update(request)  # no change
            continue
        with pytest.raises(UsageError, match="given again"):
            await desk.update(request)
    changed = await desk.update(RealmSet(name="corp", uri="ldaps://new", secret="n3w"))
    assert changed.uri == "ldaps://new"
    await desk.test("corp")
    assert (Asked.directories[-1].uri, Asked.directories[-1].bind_password) == ("ldaps://new", "n3w")
    assert (await desk.update(RealmSet(name="corp", filter="(objectClass=person)"))).base == "dc=corp"


async def test_its_users_are_decided_there(desk: Realms, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.create(CORP)
    assert await desk.takes(who("anna@corp"), "right")
    assert not await desk.takes(who("anna@corp"), "wrong")
    assert not await desk.takes(who("anna@elsewhere"), "right")
    assert len(Asked.directories) == 2, "a realm that there is not is not asked"


async def test_one_that_is_away_lets_nobody_in_and_tells_strangers_nothing(
    desk: Realms, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.create(CORP)
    secret = UnavailableError("10.0.0.7 answers: strong auth required", hint="look there")
    monkeypatch.setattr(Asked, "answer", secret)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="realm corp cannot be asked") as caught:
            await desk.takes(who("anna@corp"), "right")
        assert "10.0.0.7" not in str(caught.value)
    with pytest.raises(UnavailableError, match=r"10\.0\.0\.7"):
        await desk.test("corp")
    monkeypatch.setattr(Asked, "answer", True)
    assert await desk.takes(who("anna@corp"), "right")


async def test_no_more_than_there_may_be(desk: Realms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.limits_access, "REALMS_MAX", 1)
    await desk.create(CORP)
    with pytest.raises(ConflictError, match="1 realms already"):
        await desk.create(RealmSet(name="other", uri="ldaps://x", template=TEMPLATE))
