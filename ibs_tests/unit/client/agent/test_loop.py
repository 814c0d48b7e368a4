"""The agent's loop: orders followed once, lines that break or swallow, and the few reasons to give up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.client.agent.identity import AgentStatus
from ibs.client.agent.loop import Agent
from ibs.client.agent.policy import Policy
from ibs.errors import ConflictError, NotAuthenticated, Quarantined, RefusedError, UnavailableError
from ibs.runtime.clock import LoopClock
from ibs.runtime.pool import InlinePool
from ibs.wire.hosts import AgentOrders, AgentRun
from ibs.wire.system import BackupRun
from ibs_tests.unit.client.agent.conftest import ME, FakeServer

POLL = "/agent/poll"
SESSIONS = "/agent/tasks/U1/sessions"
RUN = AgentRun(upid="U1", run=BackupRun(store="main", sources=["etc.tree:/etc"], backup_id="web01"))
NOTHING = AgentOrders(hold_seconds=20, grace_seconds=60)


def agent_of(
    server: FakeServer, show: Callable[[AgentStatus], None] = lambda _said: None, *, allow_all: bool = False
) -> Agent:
    return Agent(
        ME,
        server.client(),
        server.client(),
        lambda: Policy(Path("/nowhere"), allow_all=allow_all),
        pool=InlinePool(),
        clock=LoopClock(),
        show=show,
        entropy=bytes,
    )


def holding(server: FakeServer, *orders: AgentOrders) -> None:
    """The server gives these, one a poll, and then holds every poll for its time."""
    waiting = list(orders)

    async def answer(_body: Any) -> AgentOrders:
        if waiting:
            return waiting.pop(0)
        await trio.sleep(20)
        return NOTHING

    server.answers[POLL] = answer


async def test_an_order_is_followed_once_and_its_end_told(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server = FakeServer()
    again = AgentOrders(start=[RUN], hold_seconds=20)
    holding(server, NOTHING, again, again)
    nursery.start_soon(agent_of(server).run)
    await trio.sleep(30)
    ends = server.bodies("/agent/tasks/U1/end")
    assert [end["status"] for end in ends] == ["FAILED", "FAILED"][: len(ends)]
    assert "is not among the paths" in ends[0]["message"]
    assert server.bodies(POLL)[0]["running"] == []
    assert len({body["instance"] for body in server.bodies(POLL)}) == 1


async def test_stop_ends_a_job_without_a_word(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server, said = FakeServer(), []
    gate = trio.Event()

    async def slow(_body: Any) -> None:
        await gate.wait()

    server.answers["/agent/tasks/U1/end"] = slow
    holding(server, AgentOrders(start=[RUN], hold_seconds=20), NOTHING, AgentOrders(stop=["U1", "other"]))
    nursery.start_soon(agent_of(server, said.append).run)
    await trio.sleep(1)
    assert server.bodies(POLL)[1]["running"] == ["U1"]
    assert any(status.running == ["U1"] for status in said)
    assert said[-1].running == []
    assert server.bodies(POLL)[-1]["running"] == []


async def test_a_broken_line_is_tried_again_with_growing_pauses(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server, said = FakeServer(), []
    server.answers[POLL] = httpx.ConnectError("refused")
    nursery.start_soon(agent_of(server, said.append).run)
    await trio.sleep(100)
    pauses = [later - first for first, later in zip(server.times, server.times[1:], strict=False)]
    assert pauses[:4] == [0.25, 0.5, 1, 2]  # entropy of zeros: half of each step
    assert max(pauses) == 7.5
    assert (said[-1].state, said[-1].last_error) == ("trying", "b:8007 cannot be reached: refused")
    holding(server)
    await trio.sleep(30)
    assert said[-1].state == "connected"


async def test_a_line_that_swallows_everything_is_noticed(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server, said, hole = FakeServer(), [], trio.Event()
    holding(server, NOTHING)
    nursery.start_soon(agent_of(server, said.append).run)
    await trio.sleep(1)

    async def swallowed(_body: Any) -> AgentOrders:
        await hole.wait()
        return NOTHING

    server.answers[POLL] = swallowed
    await trio.sleep(20 + 28)
    assert said[-1].state == "connected"
    await trio.sleep(3)
    assert said[-1].state == "trying"
    assert "no answer from b:8007 in 30 seconds" in said[-1].last_error
    hole.set()


async def test_a_session_that_ended_at_the_server_is_opened_anew(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    """The connections of the backup are dead and nobody said so; the poll still gets through."""
    server = FakeServer()
    order = AgentRun(upid="U1", run=BackupRun(store="main", sources=[f"a.tree:{tmp_path}"], backup_id="w"))
    again = AgentOrders(again=["U1"], hold_seconds=20)

    async def polled(body: Any) -> AgentOrders:
        if len(server.bodies(POLL)) == 1:
            return AgentOrders(start=[order], hold_seconds=20)
        if trio.current_time() > 15 and len(server.bodies(SESSIONS)) == 1:
            return again
        await trio.sleep(20)
        return NOTHING

    async def opened(_body: Any) -> Any:
        if len(server.bodies(SESSIONS)) == 1:
            await trio.sleep_forever()
        return Quarantined("main", "", "new backups")

    server.answers |= {POLL: polled, SESSIONS: opened}
    nursery.start_soon(agent_of(server, allow_all=True).run)
    await trio.sleep(60)
    assert len(server.bodies(SESSIONS)) == 2
    assert len(server.bodies("/agent/tasks/U1/end")) == 1


@pytest.mark.parametrize(
    "error", [NotAuthenticated("the credential is not valid"), RefusedError("not an agent"), ConflictError("another")]
)
async def test_where_trying_again_cannot_help(autojump_clock: MockClock, error: Exception) -> None:
    server = FakeServer()
    server.answers[POLL] = error
    with pytest.RaisesGroup(type(error)):
        await agent_of(server).run()
    assert len(server.asked) == 1


async def test_a_second_agent_that_comes_later_does_not_end_the_first(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server, said = FakeServer(), []
    answers: list[Any] = [NOTHING, ConflictError("another agent"), UnavailableError("the server is stopping"), NOTHING]

    async def answer(_body: Any) -> Any:
        if answers:
            return answers.pop(0)
        return await trio.sleep_forever()

    server.answers[POLL] = answer
    nursery.start_soon(agent_of(server, said.append).run)
    await trio.sleep(5)
    assert said[-1].state == "connected"
    assert "trying" in [status.state for status in said]
