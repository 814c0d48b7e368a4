"""Users whose password a realm keeps: asked without holding others up, counted and let in as everybody else."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from ibs.core import limits_access
from ibs.core.access import AuthId
from ibs.errors import BusyError, NotAuthenticated, UnavailableError, UsageError
from ibs.ports.access import UserRecord
from ibs.runtime.pool import InlinePool
from ibs.security.logins import Logins
from ibs.security.secrets import load_secrets
from ibs.wire.access import LoginGranted, LoginRequest
from ibs_tests.support.identities import ADMIN, KEY, World

ANNA, PEER = "Anna@corp", "192.0.2.1"


class Realm:
    """Takes "right"; `away` and `slow` say how it is today."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False
        self.hold: trio.Event | None = None

    async def __call__(self, who: AuthId, password: str) -> bool:
        self.asked.append(str(who))
        if self.hold is not None:
            await self.hold.wait()
        if self.away:
            raise UnavailableError("realm corp cannot be reached")
        return password == "right"


@pytest.fixture
def realm() -> Realm:
    return Realm()


@pytest.fixture
async def logins(world: World, realm: Realm, monkeypatch: pytest.MonkeyPatch) -> Logins:
    monkeypatch.setattr(limits_access, "PASSWORD_OPERATIONS", 1)
    monkeypatch.setattr(limits_access, "PASSWORD_MEMORY_BYTES", 8192)
    secrets = load_secrets(world.catalog.state)
    object.__setattr__(secrets, "token_key", KEY)
    await world.catalog.access.add_user(UserRecord(ANNA, True, "", 0))
    await world.checker.load()
    parts = {"clock": world.clock, "bus": world.bus, "pool": InlinePool()}
    return Logins(world.catalog.access, world.checker, world.identities, secrets, ask_realm=realm, **parts)  # type: ignore[arg-type]


async def enter(
    logins: Logins, password: str = "right", who: str = ANNA, peer: str = PEER, code: str = ""
) -> LoginGranted:
    return await logins.log_in(LoginRequest(auth_id=who, password=password, code=code), peer)


async def test_the_realm_decides_and_only_over_users_that_are_known_here(
    world: World, logins: Logins, realm: Realm
) -> None:
    granted = await enter(logins)
    principal = await world.checker.authenticate(f"Bearer {granted.auth_id}:{granted.secret}", PEER)
    assert principal.auth_id == ANNA
    for who, password in ((ANNA, "wrong"), (ANNA, ""), ("otto@corp", "right"), ("anna@corp", "right")):
        with pytest.raises(NotAuthenticated, match="the login is not valid"):
            await enter(logins, password, who, peer=f"192.0.2.{len(world.events)}")
    assert realm.asked == [ANNA, ANNA, "otto@corp", "anna@corp"]  # never with an empty password
    with pytest.raises(NotAuthenticated, match="the login is not valid"):
        await enter(logins, who="root@ibs", peer="192.0.2.99")
    assert "root@ibs" not in realm.asked
    await world.identities.set_user(ADMIN, ANNA, enabled=False)
    with pytest.raises(NotAuthenticated, match="is disabled"):
        await enter(logins)


async def test_without_realms_no_password_helps(world: World, logins: Logins) -> None:
    logins._ask_realm = None
    with pytest.raises(NotAuthenticated, match="the login is not valid"):
        await enter(logins)


async def test_guessing_gets_slower_in_whatever_case_the_name_is_written(logins: Logins, realm: Realm) -> None:
    for number, who in enumerate(("anna@corp", "ANNA@corp", "Anna@corp", "aNna@corp", "annA@corp")):
        with pytest.raises(NotAuthenticated, match="not valid"):
            await enter(logins, "wrong", who, peer=f"192.0.2.{number}")
    asked = len(realm.asked)
    with pytest.raises(NotAuthenticated, match="too many failed logins"):
        await enter(logins, peer="192.0.2.77")
    assert len(realm.asked) == asked


async def test_a_realm_that_is_away_lets_nobody_in_and_counts_against_nobody(logins: Logins, realm: Realm) -> None:
    realm.away = True
    for _ in range(limits_access.LOGIN_FREE_FAILURES + 2):
        with pytest.raises(UnavailableError, match="realm corp cannot be reached"):
            await enter(logins)
    realm.away = False
    await enter(logins)


async def test_a_realm_that_dawdles_holds_up_nobody_else(
    world: World, logins: Logins, realm: Realm, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    await world.token("otto@ibs!t")
    await logins.set_password(ADMIN, "otto@ibs", "four words in a row")
    realm.hold = trio.Event()

    async def hangs() -> None:
        with pytest.raises(UnavailableError, match="realm corp does not answer"):
            await enter(logins)

    nursery.start_soon(hangs)
    while not realm.asked:
        await trio.lowlevel.checkpoint()
    await enter(logins, "four words in a row", "otto@ibs")
    for who, peer in (("ANNA@corp", "192.0.2.2"), ("eva@corp", PEER)):  # no way to guess faster
        with pytest.raises(BusyError, match="another login"):
            await enter(logins, who=who, peer=peer)
    mock_clock.jump(limits_access.REALM_SECONDS_MAX + 1)


async def test_hanging_up_does_not_make_a_guess_uncounted(
    logins: Logins, world: World, realm: Realm, nursery: trio.Nursery
) -> None:
    realm.hold, scope, over = trio.Event(), trio.CancelScope(), trio.Event()

    async def guess() -> None:
        with scope, pytest.raises(NotAuthenticated):
            await enter(logins, "wrong")
        over.set()

    nursery.start_soon(guess)
    while not realm.asked:
        await trio.lowlevel.checkpoint()
    scope.cancel()
    realm.hold.set()
    await over.wait()
    assert {one.name: one.count for one in await world.catalog.access.failures()} == {"anna@corp": 1, PEER: 1}


async def test_our_second_factor_may_be_asked_and_our_passwords_are_not(world: World, logins: Logins) -> None:
    with pytest.raises(UsageError, match="is kept by its realm"):
        await logins.set_password(ADMIN, ANNA, "four words in a row")
    made = await logins.enable_totp(ADMIN, ANNA)
    with pytest.raises(NotAuthenticated, match="a code of the second factor is needed"):
        await enter(logins)
    with pytest.raises(NotAuthenticated, match="the login is not valid"):
        await enter(logins, code="000000x")
    await enter(logins, code=made.recovery[0])
    with pytest.raises(NotAuthenticated, match="the login is not valid"):
        await enter(logins, code=made.recovery[0])
