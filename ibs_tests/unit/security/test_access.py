"""Authentication and rights, over a real catalog."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
import trio

from ibs.core import limits
from ibs.core.access import Privilege
from ibs.errors import FailedError, NotAuthenticated, NotAuthorised
from ibs.security.access import AccessChecker, Principal
from ibs_tests.support.identities import ADMIN, KEY, World

STORE = "/datastore/main"


async def test_the_right_secret_comes_in(world: World) -> None:
    header = await world.token("anna@ibs!host")
    assert await world.checker.authenticate(header, "192.0.2.1") == Principal("anna@ibs!host", "192.0.2.1")
    again = AccessChecker(world.catalog.access, KEY, clock=world.clock, bus=world.bus)
    assert (await again.authenticate(header, "")).auth_id == "anna@ibs!host"


async def test_wrong_ones_do_not_and_look_alike(world: World) -> None:
    header = await world.token("anna@ibs!host")
    other = await world.token("anna@ibs!other")
    secret = header.rpartition(":")[2]
    for wrong in (
        header[:-1] + ("A" if header[-1] != "A" else "B"),
        header.replace("host", "nobody"),
        f"Bearer anna@ibs!other:{secret}",
        f"Bearer anna@ibs:{secret}",
        f"Bearer nobody@ibs:{secret}",
        f"Bearer anna@ibs!host:{other.rpartition(':')[2]}",
    ):
        with pytest.raises(NotAuthenticated) as caught:
            await world.checker.authenticate(wrong, "192.0.2.1")
        assert caught.value.message == "the credential is not valid"
    again = AccessChecker(world.catalog.access, bytes(32), clock=world.clock, bus=world.bus)
    with pytest.raises(NotAuthenticated):
        await again.authenticate(header, "")


async def test_expiry(world: World) -> None:
    header = await world.token("anna@ibs!host", expires="2026-01-01T00:01:00Z")
    principal = await world.checker.authenticate(header, "")
    await world.grant(STORE, "Datastore.Backup", "anna@ibs")
    await world.grant(STORE, "Datastore.Backup", "anna@ibs!host")
    world.clock.advance(59.9)
    world.checker.require(principal, Privilege.DATASTORE_BACKUP, STORE)
    world.clock.advance(0.1)
    with pytest.raises(NotAuthenticated, match="token anna@ibs!host expired at 2026-01-01T00:01:00Z"):
        await world.checker.authenticate(header, "")
    with pytest.raises(NotAuthenticated):
        world.checker.require(principal, Privilege.DATASTORE_BACKUP, STORE)
    assert not world.checker.allows(principal, Privilege.DATASTORE_BACKUP, STORE)


async def test_why_is_told_only_with_the_right_secret(world: World) -> None:
    header = await world.token("anna@ibs!host")
    await world.identities.set_token(ADMIN, "anna@ibs!host", enabled=False)
    with pytest.raises(NotAuthenticated, match="token anna@ibs!host is disabled"):
        await world.checker.authenticate(header, "")
    with pytest.raises(NotAuthenticated, match="the credential is not valid"):
        await world.checker.authenticate(header + "x", "")
    await world.identities.set_token(ADMIN, "anna@ibs!host", enabled=True)
    await world.identities.set_user(ADMIN, "anna@ibs", enabled=False)
    with pytest.raises(NotAuthenticated, match="user anna@ibs is disabled"):
        await world.checker.authenticate(header, "")
    await world.identities.set_user(ADMIN, "anna@ibs", enabled=True)
    await world.checker.authenticate(header, "")


async def test_a_token_never_has_more_than_its_user(world: World) -> None:
    principal = await world.checker.authenticate(await world.token("anna@ibs!host"), "")
    await world.grant(STORE, "Datastore.Admin", "anna@ibs!host")
    with pytest.raises(NotAuthorised, match="anna@ibs!host lacks role"):
        world.checker.require(principal, Privilege.DATASTORE_READ, STORE)
    await world.grant(STORE, "Datastore.Backup", "anna@ibs")
    world.checker.require(principal, Privilege.DATASTORE_BACKUP, STORE)
    assert not world.checker.allows(principal, Privilege.DATASTORE_READ, STORE)
    await world.identities.revoke(ADMIN, STORE, "Datastore.Backup", "anna@ibs")
    assert not world.checker.allows(principal, Privilege.DATASTORE_BACKUP, STORE)


async def test_a_user_gives_its_token_nothing_by_itself(world: World) -> None:
    principal = await world.checker.authenticate(await world.token("anna@ibs!host"), "")
    await world.grant("/", "Admin", "anna@ibs")
    assert not world.checker.allows(principal, Privilege.DATASTORE_AUDIT, STORE)


async def test_the_refusal_names_identity_role_and_path(world: World) -> None:
    principal = await world.checker.authenticate(await world.token("anna@ibs!host"), "")
    with pytest.raises(NotAuthorised) as caught:
        world.checker.require(principal, Privilege.DATASTORE_READ, "/datastore/main/a")
    assert caught.value.message == "not authorised: anna@ibs!host lacks role Datastore.Reader on /datastore/main/a"


async def test_removal_cuts_off_those_already_in(world: World) -> None:
    principal = await world.checker.authenticate(await world.token("anna@ibs!host"), "")
    for who in ("anna@ibs", "anna@ibs!host"):
        await world.grant(STORE, "Datastore.Backup", who)
    world.checker.require(principal, Privilege.DATASTORE_BACKUP, STORE)
    await world.identities.remove_token(ADMIN, "anna@ibs!host")
    with pytest.raises(NotAuthenticated):
        world.checker.require(principal, Privilege.DATASTORE_BACKUP, STORE)


async def test_nobody_has_nothing(world: World) -> None:
    assert not world.checker.allows(world.checker.anonymous, Privilege.SYSTEM_AUDIT, "/system")
    with pytest.raises(NotAuthenticated, match="no credential"):
        world.checker.require(world.checker.anonymous, Privilege.SYSTEM_AUDIT, "/system")


async def test_failures_are_told_up_to_a_bound_and_lock_nobody_out(world: World) -> None:
    header = await world.token("anna@ibs!host")
    world.events.clear()
    wrong = "Bearer anna@ibs!host:hush-hush"
    for _ in range(limits.AUTH_FAILURES_MAX + 20):
        with pytest.raises(NotAuthenticated):
            await world.checker.authenticate(wrong, "192.0.2.1")
    assert [event.kind for event in world.events] == ["authentication.failed"] * limits.AUTH_FAILURES_MAX
    assert world.events[0].fields["auth_id"] == "anna@ibs!host"
    assert "further ones are not shown" in world.events[-1].text
    assert not any("hush" in str(event.to_json()) for event in world.events)
    await world.checker.authenticate(header, "192.0.2.1")
    with pytest.raises(NotAuthenticated):
        await world.checker.authenticate(wrong, "192.0.2.2")
    assert len(world.events) == limits.AUTH_FAILURES_MAX + 1


async def test_a_missing_credential_is_no_failure(world: World) -> None:
    with pytest.raises(NotAuthenticated, match="no credential"):
        await world.checker.authenticate("", "192.0.2.1")
    assert world.events == []


async def test_last_use_is_kept_once_a_minute(world: World) -> None:
    header = await world.token("anna@ibs!host")
    written: list[Any] = []
    real = world.catalog.access.tokens_used

    async def tokens_used(times: Any) -> None:
        written.append(dict(times))
        await real(times)

    world.catalog.access.tokens_used = tokens_used  # type: ignore[method-assign]
    for _ in range(5):
        await world.checker.authenticate(header, "")
    world.clock.advance(limits.TOKEN_LAST_USED_SECONDS)
    for _ in range(5):
        await world.checker.authenticate(header, "")
    assert len(written) == 2
    assert (await world.identities.tokens())[0].last_used == "2026-01-01T00:01:00Z"


async def test_a_full_disk_keeps_nobody_out(world: World) -> None:
    header = await world.token("anna@ibs!host")

    async def tokens_used(times: Any) -> None:
        raise FailedError("disk full")

    world.catalog.access.tokens_used = tokens_used  # type: ignore[method-assign]
    await world.checker.authenticate(header, "")


async def test_rows_that_cannot_be_read_let_nobody_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    header = await world.token("anna@ibs!host")
    principal = await world.checker.authenticate(header, "")

    async def broken() -> Any:
        raise FailedError("damaged")

    with monkeypatch.context() as patch:
        patch.setattr(world.catalog.access, "rules", broken)
        with pytest.raises(FailedError):
            await world.checker.load()
        assert not world.checker.allows(principal, Privilege.SYSTEM_AUDIT, "/system")
        with pytest.raises(FailedError):
            await world.checker.authenticate(header, "")
    await world.checker.authenticate(header, "")


def disable_all(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE tokens SET enabled = 0")


async def test_a_cancelled_load_is_whole(world: World) -> None:
    header = await world.token("anna@ibs!host")
    await world.catalog.database.write(disable_all)
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.checker.load()
    with pytest.raises(NotAuthenticated, match="disabled"):
        await world.checker.authenticate(header, "")


async def test_what_is_granted_deeper_is_found_from_above(world: World) -> None:
    await world.token("anna@ibs!host")
    for who in ("anna@ibs", "anna@ibs!host"):
        await world.grant("/datastore/main/a", "Datastore.Audit", who)
    caller, audit = Principal("anna@ibs!host"), Privilege.DATASTORE_AUDIT
    for path, within in (
        ("/datastore/main/a/b", True),
        ("/datastore/main", True),
        ("/", True),
        ("/datastore/mai", False),
        ("/datastore/main/a2", False),
    ):
        assert world.checker.allows_within(caller, audit, path) is within, path
    assert not world.checker.allows_within(caller, Privilege.DATASTORE_MODIFY, "/")
    assert not world.checker.allows_within(Principal(""), audit, "/")
    await world.identities.set_user(ADMIN, "anna@ibs", enabled=False)
    assert not world.checker.allows_within(caller, audit, "/datastore/main/a")
