"""Logging in as a person: only with what is right, each code once, and slower for those who guess."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import timedelta

import pytest

from ibs.core import limits_access
from ibs.core.access import Privilege
from ibs.errors import ConflictError, NotAuthenticated, NotFoundError, UnavailableError, UsageError
from ibs.ports.access import FailureRecord
from ibs.runtime.clock import ManualClock
from ibs.runtime.pool import InlinePool
from ibs.security import totp
from ibs.security.access import Principal
from ibs.security.logins import Logins
from ibs.security.secrets import ServerSecrets, load_secrets
from ibs.wire.access import LoginRequest
from ibs_tests.support.identities import ADMIN, KEY, World

ANNA, PASSWORD, PEER = "anna@ibs", "four words in a row", "192.0.2.1"


@pytest.fixture
async def logins(world: World, monkeypatch: pytest.MonkeyPatch) -> Logins:
    monkeypatch.setattr(limits_access, "PASSWORD_OPERATIONS", 1)
    monkeypatch.setattr(limits_access, "PASSWORD_MEMORY_BYTES", 8192)
    secrets = load_secrets(world.catalog.state)
    object.__setattr__(secrets, "token_key", KEY)
    made = start(world, secrets, world.clock)
    await world.token("anna@ibs!t")
    await made.set_password(ADMIN, ANNA, PASSWORD)
    return made


def start(world: World, secrets: ServerSecrets, clock: ManualClock) -> Logins:
    return Logins(
        world.catalog.access,
        world.checker,
        world.identities,
        secrets,
        clock=clock,
        bus=world.bus,
        pool=InlinePool(),
    )


async def enter(logins: Logins, password: str = PASSWORD, code: str = "", who: str = ANNA, peer: str = PEER) -> str:
    granted = await logins.log_in(LoginRequest(auth_id=who, password=password, code=code), peer)
    return f"Bearer {granted.auth_id}:{granted.secret}"


async def test_a_login_stands_for_the_user_until_it_ends(world: World, logins: Logins) -> None:
    await world.grant("/", "Audit", ANNA)
    header = await enter(logins)
    principal = await world.checker.authenticate(header, PEER)
    assert principal == Principal(ANNA, PEER)
    assert world.checker.allows(principal, Privilege.SYSTEM_AUDIT, "/system")
    assert not world.checker.allows(principal, Privilege.SYSTEM_MODIFY, "/system")
    world.clock.advance(limits_access.LOGIN_SESSION_SECONDS)
    with pytest.raises(NotAuthenticated):
        await world.checker.authenticate(header, PEER)
    assert not world.checker.allows(principal, Privilege.SYSTEM_AUDIT, "/system")


async def test_what_ends_logins_at_once(world: World, logins: Logins) -> None:
    for end in ("logout", "password", "disable", "remove"):
        header = await enter(logins)
        await world.checker.authenticate(header, PEER)
        if end == "logout":
            logins.log_out(ANNA)
        elif end == "password":
            await logins.set_password(ADMIN, ANNA, PASSWORD)
        elif end == "disable":
            await world.identities.set_user(ADMIN, ANNA, enabled=False)
        else:
            await world.identities.set_user(ADMIN, ANNA, enabled=True)
            await world.identities.remove_user(ADMIN, ANNA)
        with pytest.raises(NotAuthenticated):
            await world.checker.authenticate(header, PEER)
        if end == "disable":
            with pytest.raises(NotAuthenticated, match="anna@ibs is disabled"):
                await enter(logins)
            await world.identities.set_user(ADMIN, ANNA, enabled=True)
    with pytest.raises(NotAuthenticated, match="the login is not valid"):
        await enter(logins)


async def test_nothing_tells_which_users_exist_or_have_passwords(world: World, logins: Logins) -> None:
    await world.token("otto@ibs!t")
    said = set()
    for who, password in ((ANNA, "wrong"), ("otto@ibs", ""), ("otto@ibs", PASSWORD), ("nobody@ibs", PASSWORD)):
        with pytest.raises(NotAuthenticated) as caught:
            await enter(logins, password, who=who, peer=f"192.0.2.{len(said)}")
        said.add(str(caught.value))
    assert said == {"the login is not valid"}
    with pytest.raises(NotAuthenticated, match="is a token"):
        await enter(logins, who="anna@ibs!t")


async def test_guessing_gets_slower_for_the_user_and_for_the_address(world: World, logins: Logins) -> None:
    for number in range(limits_access.LOGIN_FREE_FAILURES):
        with pytest.raises(NotAuthenticated, match="not valid"):
            await enter(logins, "wrong", peer=f"192.0.2.{number}")
    with pytest.raises(NotAuthenticated, match="too many failed logins for anna@ibs or from"):
        await enter(logins)
    world.clock.advance(1)
    await enter(logins)
    for number in range(limits_access.LOGIN_FREE_FAILURES):
        with pytest.raises(NotAuthenticated, match="not valid"):
            await enter(logins, "wrong", who=f"nobody{number}@ibs", peer="198.51.100.1")
    with pytest.raises(NotAuthenticated, match=r"or from 198\.51\.100\.1; try again"):
        await enter(logins, peer="198.51.100.1")
    await enter(logins, peer=PEER)
    header = await world.token("anna@ibs!machine")
    assert (await world.checker.authenticate(header, "198.51.100.1")).auth_id == "anna@ibs!machine"
    kinds = [event.kind for event in world.events]
    assert kinds.count("authentication.failed") == 2 * limits_access.LOGIN_FREE_FAILURES


async def test_a_network_full_of_addresses_waits_as_one(logins: Logins) -> None:
    for number in range(limits_access.LOGIN_FREE_FAILURES):
        with pytest.raises(NotAuthenticated, match="not valid"):
            await enter(logins, "wrong", who=f"nobody{number}@ibs", peer=f"2001:db8::{number + 1}")
    with pytest.raises(NotAuthenticated, match="or from 2001:db8::ffff; try again"):
        await enter(logins, peer="2001:db8::ffff")
    await enter(logins, peer="2001:db8:0:1::1")


async def test_a_restart_is_no_way_around_the_wait(world: World, logins: Logins) -> None:
    def restarted(seconds_later: int) -> Logins:
        booted = ManualClock(world.clock.now() + timedelta(seconds=seconds_later))  # its monotonic time begins anew
        return start(world, load_secrets(world.catalog.state), booted)

    for number in range(limits_access.LOGIN_FREE_FAILURES + 3):
        with pytest.raises(NotAuthenticated, match="not valid"):
            await enter(logins, "wrong", peer=f"192.0.2.{number}")
        world.clock.advance(logins._users.wait(ANNA))
    with pytest.raises(NotAuthenticated, match="not valid"):
        await enter(logins, "wrong")
    for later, seconds in ((0, 17), (3, 14), (-86_400, 17)):  # a clock that was set back shortens nothing
        with pytest.raises(NotAuthenticated, match=f"too many failed logins for {ANNA} .* in {seconds} seconds"):
            await enter(restarted(later))
    with pytest.raises(NotAuthenticated, match="not valid"):
        await enter(restarted(16), "wrong")
    assert [one.count for one in await world.catalog.access.failures() if one.name == ANNA] == [10]
    await enter(restarted(16 + 32))
    assert ANNA not in [one.name for one in await world.catalog.access.failures()]
    assert restarted(0)._users.wait(ANNA) == 0
    await enter(restarted(0))


async def test_nobody_gets_in_while_the_counts_cannot_be_read(
    world: World, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreadable() -> Sequence[FailureRecord]:
        raise UnavailableError("the state cannot be read")

    with monkeypatch.context() as broken:
        broken.setattr(world.catalog.access, "failures", unreadable)
        with pytest.raises(UnavailableError):
            await enter(logins)
    await enter(logins)


async def test_a_second_factor_is_wanted_and_each_code_fits_once(world: World, logins: Logins) -> None:
    made = await logins.enable_totp(ADMIN, ANNA)
    secret = base64.b32decode(made.secret)
    with pytest.raises(NotAuthenticated, match="second factor is needed"):
        await enter(logins)
    with pytest.raises(NotAuthenticated, match="not valid"):
        await enter(logins, "wrong", code="000000")
    seconds = world.clock.now_ns() // 1_000_000_000
    code = totp.code(secret, seconds // 30)
    await enter(logins, code=f"{code[:3]} {code[3:]}")
    with pytest.raises(NotAuthenticated, match="not valid"):
        await enter(logins, code=code)
    world.clock.advance(30)
    await enter(logins, code=totp.code(secret, seconds // 30 + 1))
    await world.token("anna@ibs!u")  # tokens need no code
    with pytest.raises(ConflictError, match="has a second factor"):
        await logins.enable_totp(ADMIN, ANNA)
    shown = await logins.show(ANNA)
    assert (shown.password, shown.totp, shown.recovery_left, shown.sessions) == (True, True, 10, 2)
    await logins.disable_totp(ADMIN, ANNA)
    await enter(logins)


async def test_a_recovery_code_fits_once_and_is_told(world: World, logins: Logins) -> None:
    made = await logins.enable_totp(ADMIN, ANNA)
    assert len(set(made.recovery)) == limits_access.RECOVERY_CODES
    await enter(logins, code=made.recovery[3].lower().replace("-", ""))
    assert (await logins.show(ANNA)).recovery_left == limits_access.RECOVERY_CODES - 1
    with pytest.raises(NotAuthenticated):
        await enter(logins, code=made.recovery[3])
    await enter(logins, code=made.recovery[4])
    assert any(event.kind == "authentication.recovery" for event in world.events)


async def test_what_is_kept_tells_nothing(world: World, logins: Logins) -> None:
    made = await logins.enable_totp(ADMIN, ANNA)
    record = await world.catalog.access.login(ANNA)
    assert record is not None
    assert record.password.startswith("$argon2id$")
    for text in (PASSWORD, made.secret, made.recovery[0]):
        assert text.encode() not in repr(record).encode() + record.totp + record.recovery.encode()
    assert base64.b32decode(made.secret) not in record.totp


async def test_mistakes_are_told(world: World, logins: Logins) -> None:
    with pytest.raises(UsageError, match="at least 12"):
        await logins.set_password(ADMIN, ANNA, "short")
    with pytest.raises(NotFoundError):
        await logins.set_password(ADMIN, "nobody@ibs", PASSWORD)
    await world.token("otto@ibs!t")
    with pytest.raises(ConflictError, match="has no password"):
        await logins.enable_totp(ADMIN, "otto@ibs")
    with pytest.raises(NotFoundError):
        await logins.show("nobody@ibs")


async def test_logins_are_bounded(world: World, logins: Logins) -> None:
    first = await enter(logins)
    for _ in range(limits_access.LOGIN_SESSIONS_PER_USER_MAX):
        last = await enter(logins)
    assert world.checker.sessions_of(ANNA) == limits_access.LOGIN_SESSIONS_PER_USER_MAX
    await world.checker.authenticate(last, PEER)
    with pytest.raises(NotAuthenticated):
        await world.checker.authenticate(first, PEER)
