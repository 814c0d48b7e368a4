"""Changes of users, tokens and rules."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from ibs.core import limits
from ibs.core.access import ROOT, AuthId, Privilege
from ibs.errors import ConflictError, NotAuthenticated, NotFoundError, UsageError
from ibs.wire.system import AclEntry, TokenCreate, UserCreate
from ibs_tests.support.identities import ADMIN, World, open_world


async def test_users(world: World) -> None:
    made = await world.identities.create_user(ADMIN, UserCreate(auth_id="anna@ibs", comment="ops"))
    assert (made.auth_id, made.enabled, made.comment) == ("anna@ibs", True, "ops")
    assert await world.identities.users() == [made]
    with pytest.raises(ConflictError):
        await world.identities.create_user(ADMIN, UserCreate(auth_id="anna@ibs"))
    await world.identities.remove_user(ADMIN, "anna@ibs")
    assert await world.identities.users() == []


@pytest.mark.parametrize("auth_id", ["anna", "anna@", "anna@ibs!x", "anna@ldap", "a b@ibs", "x" * 300 + "@ibs"])
async def test_users_that_cannot_be(world: World, auth_id: str) -> None:
    with pytest.raises(UsageError):
        await world.identities.create_user(ADMIN, UserCreate(auth_id=auth_id))
    assert await world.identities.users() == []


async def test_tokens(world: World) -> None:
    header = await world.token("anna@ibs!host", expires="2027-01-01T00:00:00Z")
    [view] = await world.identities.tokens()
    assert (view.auth_id, view.enabled, view.expires) == ("anna@ibs!host", True, "2027-01-01T00:00:00Z")
    secret = header.rpartition(":")[2]
    assert secret not in str(world.events)
    assert secret.encode() not in (world.catalog.state / "state.db-wal").read_bytes()
    with pytest.raises(NotFoundError):
        await world.identities.create_token(ADMIN, TokenCreate(auth_id="nobody@ibs!x"))


@pytest.mark.parametrize(
    "request_",
    [
        TokenCreate(auth_id="anna@ibs"),
        TokenCreate(auth_id="anna@ibs!a b"),
        TokenCreate(auth_id="anna@ibs!x", expires="2026-01-01T00:00:00Z"),
        TokenCreate(auth_id="anna@ibs!x", expires="tomorrow"),
        TokenCreate(auth_id="anna@ibs!x", comment="a\nb"),
        TokenCreate(auth_id="anna@ibs!x", comment="a" * (limits.COMMENT_CHARS_MAX + 1)),
    ],
)
async def test_tokens_that_cannot_be(world: World, request_: TokenCreate) -> None:
    await world.identities.create_user(ADMIN, UserCreate(auth_id="anna@ibs"))
    with pytest.raises(UsageError):
        await world.identities.create_token(ADMIN, request_)
    assert await world.identities.tokens() == []


async def test_rules(world: World) -> None:
    await world.token("anna@ibs!host")
    entry = AclEntry(path="/datastore/main", role="Datastore.Backup", auth_id="anna@ibs!host", propagate=False)
    assert await world.identities.grant(ADMIN, entry) == entry
    assert await world.identities.acl() == [entry]
    await world.identities.revoke(ADMIN, entry.path, entry.role, entry.auth_id)
    assert await world.identities.acl() == []
    with pytest.raises(NotFoundError):
        await world.identities.revoke(ADMIN, entry.path, entry.role, entry.auth_id)


@pytest.mark.parametrize(
    ("path", "role", "auth_id", "error"),
    [
        ("datastore", "Audit", "anna@ibs", UsageError),
        ("/elsewhere", "Audit", "anna@ibs", UsageError),
        ("/", "King", "anna@ibs", UsageError),
        ("/", "Audit", "anna", UsageError),
        ("/", "Audit", "nobody@ibs", NotFoundError),
        ("/", "Audit", "anna@ibs!nothing", NotFoundError),
        ("/", "Audit", "root@ibs", ConflictError),
    ],
)
async def test_rules_that_cannot_be(world: World, path: str, role: str, auth_id: str, error: type[Exception]) -> None:
    await world.identities.create_user(ADMIN, UserCreate(auth_id="anna@ibs"))
    with pytest.raises(error):
        await world.grant(path, role, auth_id)
    assert await world.identities.acl() == []


async def test_root_stays(world: World) -> None:
    for call in (
        world.identities.remove_user(ADMIN, "root@ibs"),
        world.identities.set_user(ADMIN, "root@ibs", enabled=False),
    ):
        with pytest.raises(ConflictError, match="always there"):
            await call


async def test_each_change_is_told_with_who_did_it(world: World) -> None:
    await world.token("anna@ibs!host")
    await world.grant("/", "Audit", "anna@ibs")
    await world.identities.revoke(ADMIN, "/", "Audit", "anna@ibs")
    for enabled in (False, True):
        await world.identities.set_token(ADMIN, "anna@ibs!host", enabled=enabled)
        await world.identities.set_user(ADMIN, "anna@ibs", enabled=enabled)
    await world.identities.remove_token(ADMIN, "anna@ibs!host")
    await world.identities.remove_user(ADMIN, "anna@ibs")
    assert [event.kind.removeprefix("access.") for event in world.events] == [
        "user-created",
        "token-created",
        "granted",
        "revoked",
        "token-disabled",
        "user-disabled",
        "token-enabled",
        "user-enabled",
        "token-removed",
        "user-removed",
    ]
    assert {event.source for event in world.events} == {"configuration"}
    assert {event.fields["by"] for event in world.events} == {ADMIN}


async def test_a_refused_change_is_not_told(world: World) -> None:
    with pytest.raises(NotFoundError):
        await world.identities.remove_token(ADMIN, "anna@ibs!host")
    assert world.events == []


async def test_changes_at_once_are_all_in_force(world: World) -> None:
    header = await world.token("anna@ibs!host")
    principal = await world.checker.authenticate(header, "")
    stores = [f"/datastore/s{number}" for number in range(10)]
    async with trio.open_nursery() as nursery:
        for store in stores:
            nursery.start_soon(world.grant, store, "Datastore.Audit", "anna@ibs")
            nursery.start_soon(world.grant, store, "Datastore.Audit", "anna@ibs!host")
    assert all(world.checker.allows(principal, Privilege.DATASTORE_AUDIT, store) for store in stores)


async def test_a_cancelled_change_is_in_force_or_did_not_happen(world: World) -> None:
    header = await world.token("anna@ibs!host")
    for pauses in range(12):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.identities.remove_token, ADMIN, "anna@ibs!host")
                for _ in range(pauses):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        on_disk = [view.auth_id for view in await world.identities.tokens()]
        if on_disk:
            await world.checker.authenticate(header, "")
        else:
            with pytest.raises(NotAuthenticated):
                await world.checker.authenticate(header, "")
            break
    assert on_disk == []


async def test_a_cancelled_reset_is_whole_or_nothing(tmp_path: Path) -> None:
    who, outcomes = AuthId("root", "ibs", "local"), set()
    for pauses in range(20):
        async with open_world(tmp_path / str(pauses), inline=True) as world:
            await world.identities.create_user(ADMIN, UserCreate(auth_id=str(ROOT)))
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(world.identities.reset_token, "root@ibs", who, "c")
                    for _ in range(pauses):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            tokens, rules = len(await world.identities.tokens()), len(await world.identities.acl())
            told = sum(event.kind == "access.token-created" for event in world.events)
            outcomes.add((tokens, rules, told))
    assert outcomes == {(0, 0, 0), (1, 1, 1)}


async def test_resetting_a_token(world: World) -> None:
    who = AuthId("root", "ibs", "local")
    await world.identities.create_user(ADMIN, UserCreate(auth_id=str(ROOT)))
    first = await world.identities.reset_token("root@ibs", who, "c")
    second = await world.identities.reset_token("root@ibs", who, "c")
    principal = await world.checker.authenticate(f"Bearer {who}:{second}", "")
    world.checker.require(principal, Privilege.ACCESS_MODIFY, "/access")
    with pytest.raises(NotAuthenticated):
        await world.checker.authenticate(f"Bearer {who}:{first}", "")


async def test_nobody_locks_itself_out(world: World) -> None:
    await world.token("anna@ibs!host")
    for refused in (
        world.identities.set_token("anna@ibs!host", "anna@ibs!host", enabled=False),
        world.identities.set_user("anna@ibs!host", "anna@ibs", enabled=False),
    ):
        with pytest.raises(ConflictError, match="lock itself out"):
            await refused
    assert (await world.identities.set_token(ADMIN, "anna@ibs!host", enabled=False)).enabled is False
    assert (await world.identities.set_user(ADMIN, "anna@ibs", enabled=False)).enabled is False
