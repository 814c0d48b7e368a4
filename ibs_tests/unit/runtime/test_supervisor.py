"""One actor's death is one role's affair: restart with back-off, the others untouched, a stop in phases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import trio
import trio.testing

from ibs.core import limits
from ibs.errors import ConflictError, FailedError, NotFoundError, UnavailableError
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.clock import LoopClock
from ibs.runtime.mailbox import Handle, Message
from ibs.runtime.supervisor import ServiceState, State, Supervisor, by_role, describe

ROLES = ("api", "scheduler", "worker", "verifier", "gc", "sync", "notify")


@dataclass(frozen=True)
class Call(Message[int]):
    """How many actors of this role have been built."""

    fail: bool = False
    wait: bool = False


class Probe(Actor):
    role: ClassVar[str] = "probe"
    duty: ClassVar[str] = "is watched by a test"

    def __init__(self, seat: Seat, life: int) -> None:
        super().__init__(seat)
        self.life = life

    async def handle(self, message: Message[Any]) -> int:
        assert isinstance(message, Call)
        if message.fail:
            raise RuntimeError("broken on purpose")
        if message.wait:
            await trio.sleep_forever()
        return self.life


class House:
    """A supervisor with one probe a role."""

    def __init__(self, *roles: str) -> None:
        self.changes: list[tuple[str, str]] = []
        self.supervisor = Supervisor(LoopClock(), observe=self._observe)
        self.lives = dict.fromkeys(roles, 0)
        self.handles = {role: self.supervisor.add(self._factory(role), role, duty="test") for role in roles}

    def _observe(self, state: ServiceState) -> None:
        self.changes.append((state.role, str(state.state)))

    def _factory(self, role: str) -> Callable[[Seat], Actor]:
        def build(seat: Seat) -> Actor:
            self.lives[role] += 1
            return Probe(seat, self.lives[role])

        return build

    def state(self, role: str) -> ServiceState:
        return by_role(self.supervisor.states())[role]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: self.supervisor.run(task_status=task_status))
            yield
            self.supervisor.request_stop("test")


@pytest.mark.parametrize("victim", ROLES)
async def test_a_killed_actor_restarts_and_no_other_notices(
    victim: str, autojump_clock: trio.testing.MockClock
) -> None:
    house = House(*ROLES)
    async with house.running():
        before = {state.role: state for state in house.supervisor.states()}
        assert {str(state.state) for state in before.values()} == {"active (running)"}
        house.supervisor.inject_fault(victim)
        await trio.testing.wait_all_tasks_blocked()
        assert str(house.state(victim).state) == "activating (auto-restart)"
        assert house.state(victim).last_error == "InjectedFault: asked for"
        assert await house.handles[victim].ask(Call()) == 2  # the old handle reaches the new actor
        assert str(house.state(victim).state) == "active (running)"
        assert house.state(victim).restarts == 1
        assert house.state(victim).since > before[victim].since
        for role in ROLES:
            if role != victim:
                assert house.state(role) == before[role]
                assert house.lives[role] == 1
    assert {str(state.state) for state in house.supervisor.states()} == {"inactive (dead)"}


async def test_a_crash_refuses_what_waits_and_the_role_comes_back(autojump_clock: trio.testing.MockClock) -> None:
    house, refused = House("worker", "gc"), []

    async def ask(message: Call) -> None:
        with pytest.raises(UnavailableError) as caught:
            await house.handles["worker"].ask(message)
        refused.append(caught.value.message)

    async with house.running(), trio.open_nursery() as nursery:
        nursery.start_soon(ask, Call(wait=True))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, Call())
        await trio.testing.wait_all_tasks_blocked()
        assert house.state("worker").mailbox == 1
        house.supervisor.inject_fault("worker")
    assert sorted(refused) == ["worker does not answer: it failed and restarts", "worker failed while it answered"]


async def test_a_bug_in_a_handler_restarts_the_role(autojump_clock: trio.testing.MockClock) -> None:
    house = House("worker", "gc")
    async with house.running():
        with pytest.raises(UnavailableError):
            await house.handles["worker"].ask(Call(fail=True))
        assert await house.handles["worker"].ask(Call()) == 2
        assert house.state("worker").last_error == "RuntimeError: broken on purpose"
        assert await house.handles["gc"].ask(Call()) == 1


async def test_back_off_grows_is_bounded_and_forgets_after_a_healthy_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    house, pauses = House("worker"), []

    async def fail_and_time() -> float:
        died = trio.current_time()
        house.supervisor.inject_fault("worker")
        await trio.testing.wait_all_tasks_blocked()
        await house.handles["worker"].ask(Call(), timeout=100)
        return trio.current_time() - died

    async with house.running():
        for _ in range(limits.RESTARTS_BEFORE_FAILED):
            pauses.append(await fail_and_time())
        expected = [limits.RESTART_BACKOFF_SECONDS_MIN * 2**n for n in range(limits.RESTARTS_BEFORE_FAILED)]
        assert pauses == pytest.approx([min(seconds, limits.RESTART_BACKOFF_SECONDS_MAX) for seconds in expected])
        await trio.sleep(limits.RESTART_HEALTHY_SECONDS)
        assert await fail_and_time() == pytest.approx(limits.RESTART_BACKOFF_SECONDS_MIN)


async def test_a_role_that_keeps_failing_is_given_up_and_says_so(autojump_clock: trio.testing.MockClock) -> None:
    class Doomed(Probe):
        async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            raise OSError("no such device")

    house = House("gc")
    handle = house.supervisor.add(lambda seat: Doomed(seat, 1), "sync")
    async with house.running():
        await trio.sleep(1000)
        state = house.state("sync")
        assert str(state.state) == "failed"
        assert state.restarts == limits.RESTARTS_BEFORE_FAILED
        assert state.last_error == "OSError: no such device"
        with pytest.raises(UnavailableError, match="no such device"):
            handle.tell(Call())
        with pytest.raises(ConflictError, match="sync is failed"):
            house.supervisor.inject_fault("sync")
        assert await house.handles["gc"].ask(Call()) == 1
    assert str(house.state("sync").state) == "failed"


async def test_returning_unasked_counts_as_a_failure(autojump_clock: trio.testing.MockClock) -> None:
    class Lazy(Probe):
        async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            task_status.started()

    house = House("gc")
    house.supervisor.add(lambda seat: Lazy(seat, 1), "sync")
    async with house.running():
        assert "returned although nobody had asked" in house.state("sync").last_error


async def test_a_failed_first_start_of_an_essential_role_ends_the_run(autojump_clock: trio.testing.MockClock) -> None:
    class NoPort(Probe):
        async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            raise FailedError("the address is in use")

    house = House("gc")
    house.supervisor.add(lambda seat: NoPort(seat, 1), "api", essential=True)
    with pytest.raises(FailedError, match="the address is in use"):
        await house.supervisor.run()
    assert str(house.state("gc").state) == "inactive (dead)"


async def test_a_role_that_is_slow_to_start_does_not_hold_up_the_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Slow(Probe):
        async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            await trio.sleep_forever()

    supervisor = Supervisor(LoopClock())
    supervisor.add(lambda seat: Slow(seat, 1), "sync")
    supervisor.add(lambda seat: Probe(seat, 1), "gc")
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: supervisor.run(task_status=task_status))
        assert [str(state.state) for state in supervisor.states()] == ["inactive (dead)", "active (running)"]
        supervisor.abort()


class Finisher(Probe):
    """Takes `seconds` to finish once the server stops, and notes what happened."""

    def __init__(self, seat: Seat, seconds: float, notes: list[str]) -> None:
        super().__init__(seat, 1)
        self.seconds, self.notes = seconds, notes

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await self.seat.stopping.wait()
        try:
            await trio.sleep(self.seconds)
            self.notes.append(f"{self.seat.role} finished")
        except trio.Cancelled:
            self.notes.append(f"{self.seat.role} cancelled")
            raise


async def test_a_stop_refuses_finishes_cancels_and_keeps_the_last_rank_to_the_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    notes: list[str] = []
    supervisor = Supervisor(LoopClock())
    handles: dict[str, Handle] = {}
    for role, seconds, rank in (("quick", 5.0, 0), ("slow", 1000.0, 0), ("last", 1.0, 1)):
        handles[role] = supervisor.add(
            lambda seat, seconds=seconds: Finisher(seat, seconds, notes), role, stop_rank=rank
        )
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: supervisor.run(task_status=task_status))
        began = trio.current_time()
        supervisor.request_stop("test")
        supervisor.request_stop("again")
        assert supervisor.stopping
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(UnavailableError, match="stopping"):
            handles["quick"].tell(Call())
    assert notes == ["quick finished", "slow cancelled", "last finished"]
    assert trio.current_time() - began == pytest.approx(limits.STOP_GRACE_SECONDS + 1)


async def test_a_stop_during_back_off_does_not_wait_for_the_restart(autojump_clock: trio.testing.MockClock) -> None:
    house = House("worker")
    async with house.running():
        for _ in range(5):
            house.supervisor.inject_fault("worker")
            await trio.testing.wait_all_tasks_blocked()
            await house.handles["worker"].ask(Call(), timeout=100)
        house.supervisor.inject_fault("worker")
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
    assert trio.current_time() == began


async def test_cancelling_ends_everything_at_once(autojump_clock: trio.testing.MockClock) -> None:
    notes: list[str] = []
    supervisor = Supervisor(LoopClock())
    supervisor.add(lambda seat: Finisher(seat, 1, notes), "a")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: supervisor.run(task_status=task_status))
            scope.cancel()
    assert [str(state.state) for state in supervisor.states()] == ["inactive (dead)"]


async def test_a_failure_and_a_cancellation_together_only_cancel(autojump_clock: trio.testing.MockClock) -> None:
    class Messy(Probe):
        async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            async def fail_when_cancelled() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    raise ValueError("clean-up failed")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail_when_cancelled)
                nursery.start_soon(trio.sleep_forever)
                task_status.started()

    supervisor = Supervisor(LoopClock())
    supervisor.add(lambda seat: Messy(seat, 1), "sync")
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: supervisor.run(task_status=task_status))
        supervisor.abort()
    assert supervisor.states()[0].last_error == "ValueError: clean-up failed"


async def test_faults_only_for_roles_that_exist_and_run() -> None:
    house = House("gc")
    with pytest.raises(NotFoundError, match="no service 'nobody'"):
        house.supervisor.inject_fault("nobody")
    with pytest.raises(ConflictError, match="inactive"):
        house.supervisor.inject_fault("gc")


def test_errors_are_told_in_one_line() -> None:
    assert describe(ExceptionGroup("x", [ExceptionGroup("y", [KeyError("k")])])) == "KeyError: 'k'"
    assert describe(FailedError("the disk is gone")) == "the disk is gone"
    assert describe(ValueError()) == "ValueError"
    assert State.FAILED == "failed"


async def test_a_restart_on_request_is_at_once_and_what_waits_is_answered_by_the_new_actor(
    autojump_clock: trio.testing.MockClock,
) -> None:
    house, answers = House("worker", "gc"), []

    async def ask(message: Call) -> None:
        try:
            answers.append(await house.handles["worker"].ask(message))
        except UnavailableError as error:
            answers.append(error.message)

    async with house.running():
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, Call(wait=True))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, Call())
            await trio.testing.wait_all_tasks_blocked()
            house.supervisor.restart("worker")
        assert sorted(answers, key=str) == [2, "worker failed while it answered"]
        assert trio.current_time() == began
        state = house.state("worker")
        assert (str(state.state), state.restarts, state.last_error) == ("active (running)", 1, "")
        assert house.lives["gc"] == 1
        with pytest.raises(NotFoundError):
            house.supervisor.restart("nobody")
    with pytest.raises(ConflictError, match="cannot be restarted"):
        house.supervisor.restart("worker")


async def test_a_restart_that_is_asked_for_later_leaves_time_for_an_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    house = House("api")
    async with house.running():
        house.supervisor.restart("api", after_seconds=0.5)
        await trio.testing.wait_all_tasks_blocked()
        assert house.lives["api"] == 1
        await trio.sleep(0.6)
        assert house.lives["api"] == 2


async def test_a_restart_ends_a_back_off_and_brings_back_what_was_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    broken = True

    class Fragile(Probe):
        async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            if broken:
                raise OSError("no such device")
            await super().run(task_status=task_status)

    house = House("gc")
    handle = house.supervisor.add(lambda seat: Fragile(seat, 7), "sync")
    async with house.running():
        await trio.sleep(1000)
        assert str(house.state("sync").state) == "failed"
        house.supervisor.restart("sync")  # the cause is still there: back-off begins anew, from the shortest
        await trio.testing.wait_all_tasks_blocked()
        assert str(house.state("sync").state) == "activating (auto-restart)"
        broken = False
        began = trio.current_time()
        house.supervisor.restart("sync")
        assert await handle.ask(Call()) == 7
        assert trio.current_time() == began
        assert str(house.state("sync").state) == "active (running)"
    assert str(house.state("sync").state) == "inactive (dead)"
