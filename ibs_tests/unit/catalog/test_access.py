"""Users, tokens and rules as rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ibs.catalog.catalog import Catalog
from ibs.core import limits
from ibs.errors import ConflictError, NotFoundError
from ibs.ports.access import AccessRecords, AclRecord, FailureRecord, TokenRecord, UserRecord

ANNA = UserRecord("anna@ibs", True, "c", 1)
TOKEN = TokenRecord("anna@ibs!host", "anna@ibs", bytes(32), True, "t", 2, 30, None)


async def test_users_and_tokens(catalog: Catalog) -> None:
    access: AccessRecords = catalog.access
    await access.add_user(ANNA)
    await access.add_token(TOKEN)
    assert list(await access.users()) == [ANNA]
    assert list(await access.tokens()) == [TOKEN]
    await access.set_user("anna@ibs", enabled=False)
    await access.set_token("anna@ibs!host", enabled=False)
    await access.tokens_used({"anna@ibs!host": 9, "gone@ibs!x": 9})
    assert list(await access.users()) == [replace(ANNA, enabled=False)]
    assert list(await access.tokens()) == [replace(TOKEN, enabled=False, last_used_ns=9)]


async def test_a_digest_is_not_shown() -> None:
    assert "digest" not in repr(TOKEN)


async def test_a_user_goes_with_tokens_and_rules(catalog: Catalog) -> None:
    access = catalog.access
    await access.add_user(ANNA)
    await access.add_user(replace(ANNA, auth_id="anna@ibs2"))
    await access.add_token(TOKEN)
    for who in ("anna@ibs", "anna@ibs!host", "anna@ibs2"):
        await access.grant(AclRecord("/datastore/main", who, "Datastore.Backup"))
    await access.remove_user("anna@ibs")
    assert [user.auth_id for user in await access.users()] == ["anna@ibs2"]
    assert await access.tokens() == []
    assert [rule.auth_id for rule in await access.rules()] == ["anna@ibs2"]


async def test_a_token_goes_with_its_rules(catalog: Catalog) -> None:
    await catalog.access.add_user(ANNA)
    await catalog.access.add_token(TOKEN)
    await catalog.access.grant(AclRecord("/", "anna@ibs!host", "Admin"))
    await catalog.access.grant(AclRecord("/", "anna@ibs", "Admin"))
    await catalog.access.remove_token("anna@ibs!host")
    assert [rule.auth_id for rule in await catalog.access.rules()] == ["anna@ibs"]


async def test_a_token_can_be_replaced(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError, match="user anna@ibs does not exist"):
        await catalog.access.put_token(TOKEN)
    await catalog.access.add_user(ANNA)
    await catalog.access.grant(AclRecord("/", "anna@ibs!host", "Audit"))
    for record in (TOKEN, replace(TOKEN, digest=b"\1" * 32, enabled=False)):
        await catalog.access.put_token(record)
        assert list(await catalog.access.tokens()) == [record]
    assert len(await catalog.access.rules()) == 1


async def test_rules(catalog: Catalog) -> None:
    rule = AclRecord("/datastore/main", "anna@ibs", "Datastore.Backup", True)
    await catalog.access.grant(rule)
    await catalog.access.grant(replace(rule, role="Datastore.Audit"))
    await catalog.access.grant(replace(rule, propagate=False))
    assert list(await catalog.access.rules()) == [replace(rule, role="Datastore.Audit"), replace(rule, propagate=False)]
    await catalog.access.revoke(rule.path, rule.auth_id, rule.role)
    with pytest.raises(NotFoundError):
        await catalog.access.revoke(rule.path, rule.auth_id, rule.role)


async def test_nothing_twice_and_nothing_missing(catalog: Catalog) -> None:
    access = catalog.access
    with pytest.raises(NotFoundError, match="user anna@ibs does not exist"):
        await access.add_token(TOKEN)
    await access.add_user(ANNA)
    await access.add_token(TOKEN)
    for call in (access.add_user(ANNA), access.add_token(TOKEN)):
        with pytest.raises(ConflictError, match="exists already"):
            await call
    for call in (
        access.set_user("no@ibs", enabled=True),
        access.remove_user("no@ibs"),
        access.set_token("no@ibs!x", enabled=True),
        access.remove_token("no@ibs!x"),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_bounded(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERS_MAX", "TOKENS_MAX", "ACL_RULES_MAX"):
        monkeypatch.setattr(limits, name, 1)
    access = catalog.access
    await access.add_user(ANNA)
    await access.add_token(TOKEN)
    await access.grant(AclRecord("/", "anna@ibs", "Audit"))
    for call in (
        access.add_user(replace(ANNA, auth_id="b@ibs")),
        access.add_token(replace(TOKEN, auth_id="anna@ibs!b")),
        access.grant(AclRecord("/", "b@ibs", "Audit")),
    ):
        with pytest.raises(ConflictError, match="no more are kept"):
            await call


async def test_wrong_logins_are_kept_up_to_a_bound_and_for_a_time(catalog: Catalog) -> None:
    access = catalog.access
    rows = [FailureRecord("user", name, 1, time) for time, name in enumerate("dcba")]
    for row in rows:
        peer = FailureRecord("peer", "192.0.2.1", 7, row.last_ns)
        await access.note_failures([row, peer], since_ns=0, rows_max=3)
    assert set(await access.failures()) == {*rows[1:], peer}
    assert [one.last_ns for one in await access.failures()] == [1, 2, 3, 3]
    await access.forget_failures("user", "a")
    await access.forget_failures("peer", "a")
    assert set(await access.failures()) == {*rows[1:3], peer}
    again = FailureRecord("user", "b", 2, 9)
    await access.note_failures([again], since_ns=3, rows_max=3)
    assert list(await access.failures()) == [peer, again]
