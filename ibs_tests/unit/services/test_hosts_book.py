"""Joining: once, in time, with the right token; an identity without rights that goes with its host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ibs.core import limits
from ibs.core.access import Privilege
from ibs.errors import ConflictError, NotAuthenticated, NotAuthorised, NotFoundError, UsageError
from ibs.services.hosts_book import HostBook, agent_token
from ibs.wire.hosts import AgentJoin, HostInvite, HostUpdate
from ibs_tests.support.identities import ADMIN, KEY, World, open_world


@dataclass
class Desk:
    world: World
    book: HostBook

    async def invite(self, name: str = "web01", **more: object) -> str:
        return (await self.book.invite(ADMIN, HostInvite(name=name, **more))).token  # type: ignore[arg-type]

    async def join(self, token: str, name: str = "web01") -> str:
        """The Authorization header of the identity that was got."""
        joined = await self.book.join("10.0.0.1", AgentJoin(name=name, token=token, version="1", system="Linux"))
        assert joined.auth_id == agent_token(name)
        return f"Bearer {joined.auth_id}:{joined.secret}"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_world(tmp_path / "state", inline=True) as world:
        yield Desk(world, await book_of(world))


async def book_of(world: World) -> HostBook:
    book = HostBook(
        world.catalog.hosts, world.identities, KEY, clock=world.clock, node="node1", publish=world.bus.publish
    )
    await book.load()
    return book


async def test_a_token_buys_an_identity_without_rights(desk: Desk) -> None:
    header = await desk.join(await desk.invite(tags=["web", "prod", "web"], project="shop"))
    principal = await desk.world.checker.authenticate(header, "10.0.0.1")
    assert desk.book.of_agent(principal.auth_id) == desk.book.get("web01")
    with pytest.raises(NotAuthorised):
        desk.world.checker.require(principal, Privilege.DATASTORE_BACKUP, "/datastore/main")
    record = desk.book.get("web01")
    assert (record.tags, record.project, record.version, record.address) == (("prod", "web"), "shop", "1", "10.0.0.1")
    again = await book_of(desk.world)
    assert again.get("web01") == record
    assert "host.joined" in [event.kind for event in desk.world.events]


async def test_once(desk: Desk) -> None:
    token = await desk.invite()
    await desk.join(token)
    with pytest.raises(NotAuthenticated, match="was used already, at 2026-01-01T00:00:00Z"):
        await desk.join(token)


async def test_in_time(desk: Desk) -> None:
    token = await desk.invite(valid_seconds=60)
    desk.world.clock.advance(60)
    with pytest.raises(NotAuthenticated, match="expired at 2026-01-01T00:01:00Z") as refused:
        await desk.join(token)
    assert "host invite web01" in refused.value.hint


async def test_the_right_one_for_the_right_host(desk: Desk) -> None:
    token, other = await desk.invite(), await desk.invite("web02")
    for wrong, name in ((other, "web01"), (token, "web03"), ("", "web01"), (token, "web02"), ("x", "../etc")):
        with pytest.raises(NotAuthenticated, match="is not valid for host"):
            await desk.join(wrong, name)
    newer = await desk.invite()
    with pytest.raises(NotAuthenticated, match="is not valid"):
        await desk.join(token)  # withdrawn by the newer one
    await desk.join(newer)


async def test_strangers_fill_no_log(desk: Desk) -> None:
    for _ in range(limits.AUTH_FAILURES_MAX * 2):
        with pytest.raises(NotAuthenticated):
            await desk.join("wrong")
    told = [event for event in desk.world.events if event.kind == "host.join-refused"]
    assert len(told) == limits.AUTH_FAILURES_MAX
    assert all("wrong" not in str(event.to_json()) for event in told)


async def test_a_host_that_joined_is_invited_again_on_purpose_only(desk: Desk) -> None:
    old = await desk.join(await desk.invite(tags=["web"]))
    with pytest.raises(ConflictError, match="has joined already"):
        await desk.invite()
    token = await desk.invite(again=True)
    await desk.world.checker.authenticate(old, "")  # until the new one is taken up
    new = await desk.join(token)
    await desk.world.checker.authenticate(new, "")
    with pytest.raises(NotAuthenticated):
        await desk.world.checker.authenticate(old, "")
    assert desk.book.get("web01").tags == ("web",)


async def test_removed_means_refused(desk: Desk) -> None:
    header = await desk.join(await desk.invite())
    await desk.book.remove(ADMIN, "web01")
    with pytest.raises(NotAuthenticated):
        await desk.world.checker.authenticate(header, "")
    assert desk.book.of_agent(agent_token("web01")) is None
    with pytest.raises(NotFoundError, match="no host web01"):
        desk.book.get("web01")
    await desk.join(await desk.invite())


async def test_tags_and_project(desk: Desk) -> None:
    await desk.invite()
    await desk.book.update(ADMIN, "web01", HostUpdate(tags=["a"], project="p"))
    record = await desk.book.update(ADMIN, "web01", HostUpdate(project=""))
    assert (record.tags, record.project) == (("a",), "")
    with pytest.raises(UsageError):
        await desk.book.update(ADMIN, "web01", HostUpdate(tags=["not a word"]))


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (HostInvite(name="node1"), ConflictError),
        (HostInvite(name="../x"), UsageError),
        (HostInvite(name="x" * 59), UsageError),
        (HostInvite(name="a", valid_seconds=0), UsageError),
        (HostInvite(name="a", valid_seconds=limits.JOIN_SECONDS_MAX + 1), UsageError),
        (HostInvite(name="a", tags=[f"t{n}" for n in range(limits.HOST_TAGS_MAX + 1)]), UsageError),
    ],
)
async def test_invitations_that_make_no_sense(desk: Desk, request_: HostInvite, error: type[Exception]) -> None:
    with pytest.raises(error):
        await desk.book.invite(ADMIN, request_)
    assert desk.book.all() == []


async def test_contacts_are_kept(desk: Desk) -> None:
    await desk.join(await desk.invite())
    desk.world.clock.advance(100)
    await desk.book.heard("web01", version="2", system="Linux", address="10.0.0.1")
    desk.book.note_contact("web01")
    await desk.book.keep_contacts(["web01", "gone"])
    again = (await book_of(desk.world)).get("web01")
    assert (again.version, again.last_contact_ns) == ("2", desk.world.clock.now_ns())
