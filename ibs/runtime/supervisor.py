"""Runs the actors: one nursery, each actor on its own, restarts with back-off, a stop in phases.

Made and run by `app` only; `status --services` reads `states`. Invariants: the end of one actor never ends or cancels
another; an actor's mailbox and handle outlive it; after `run` has returned no task of any actor is left.

A stop goes: refuse new (mailboxes close) -> finish or checkpoint (actors see `seat.stopping`, or their mailbox end; by
rising rank, all within STOP_GRACE_SECONDS) -> cancel what is left -> close (`before_last`, while the actors of the last
rank still see what happens; then the caller of `run` closes what it opened).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import trio

from ibs.core import limits
from ibs.errors import ConflictError, IbsError, NotFoundError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.mailbox import Handle, Mailbox

Factory = Callable[[Seat], Actor]


class State(StrEnum):
    """The words of `systemctl status`."""

    RUNNING = "active (running)"
    RESTARTING = "activating (auto-restart)"
    FAILED = "failed"
    DEAD = "inactive (dead)"


class InjectedFault(Exception):
    """Raised inside an actor on request, to prove that it recovers and the others do not notice."""


class EndedUnasked(Exception):
    """An actor returned although nobody had asked it to stop."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One role as it is now. `since` is when `state` began; `mailbox` counts messages not yet taken."""

    role: str
    duty: str
    state: State
    since: datetime
    restarts: int
    last_error: str
    mailbox: int


@dataclass(eq=False)
class _Slot:
    """A role's place in the supervisor. Touched by the supervisor's tasks alone."""

    seat: Seat
    factory: Factory
    duty: str
    essential: bool
    stop_rank: int
    state: State
    since: datetime
    restarts: int = 0
    failures_in_a_row: int = 0
    last_error: str = ""
    scope: trio.CancelScope | None = None
    fault: str | None = None
    renew: bool = False
    """Somebody asked for a new actor in place of this one."""
    hurry: trio.Event = field(default_factory=trio.Event)
    """Set when the back-off under way is to end at once."""
    began: bool = False
    settled: trio.Event = field(default_factory=trio.Event)
    """The first start has succeeded or failed."""
    ended: trio.Event = field(default_factory=trio.Event)


async def _nothing() -> None:
    pass


class Supervisor:
    """Keeps actors running until asked to stop.

    `observe` is told of every change of state; it must not block. `before_last` is awaited in an orderly stop when all
    ranks but the last have ended; whatever it raises ends the stop.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        observe: Callable[[ServiceState], None] = lambda _state: None,
        before_last: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._before_last = before_last
        self._slots: dict[str, _Slot] = {}
        self._stop = trio.Event()
        self._stop_reason = ""
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    def add(
        self,
        factory: Factory,
        role: str,
        *,
        duty: str = "",
        essential: bool = False,
        stop_rank: int = 0,
        mailbox_slots: int = limits.MAILBOX_SLOTS,
    ) -> Handle:
        """Seat a role before `run`; return the handle others talk through. `factory` builds each new actor.

        When an `essential` role's first start fails, `run` raises its error. Roles of lower `stop_rank` stop first.
        """
        mailbox = Mailbox(role, slots=mailbox_slots)
        seat = Seat(role, mailbox, trio.Event())
        told = duty or str(getattr(factory, "duty", ""))
        self._slots[role] = _Slot(seat, factory, told, essential, stop_rank, State.DEAD, self._clock.now())
        return Handle(mailbox)

    def states(self) -> list[ServiceState]:
        """Every role, in the order they were added."""
        return [_view(slot) for slot in self._slots.values()]

    def inject_fault(self, role: str, why: str = "asked for") -> None:
        """Raise InjectedFault inside that role's actor. Raises NotFoundError, ConflictError when it does not run."""
        slot = self._slot(role)
        if slot.scope is None or slot.state is not State.RUNNING:
            raise ConflictError(f"service {role} is {slot.state}", hint="wait until it runs")
        slot.fault = why
        slot.scope.cancel()

    def restart(self, role: str, *, after_seconds: float = 0.0) -> None:
        """Put a new actor in the place of that role's, also of one that is in back-off or was given up.

        What waits in its mailbox waits for the new one; what it has in hand is refused or ends as in a crash. Failures
        so far are forgotten. With `after_seconds` it is done a little later, so that whoever asks through the role
        still gets an answer. Raises NotFoundError, ConflictError when the server stops or has not started.
        """
        slot = self._slot(role)
        if self._nursery is None or self._stop.is_set():
            raise ConflictError(f"service {role} cannot be restarted: the server is stopping or starting")
        if after_seconds > 0:
            self._nursery.start_soon(self._renew_later, slot, after_seconds, name=f"restart of {role}")
        else:
            self._renew(slot, self._nursery)

    async def _renew_later(self, slot: _Slot, seconds: float) -> None:
        await self._clock.sleep(seconds)
        if self._nursery is not None and not self._stop.is_set():
            self._renew(slot, self._nursery)

    def _renew(self, slot: _Slot, nursery: trio.Nursery) -> None:
        slot.failures_in_a_row, slot.last_error = 0, ""
        get_logger(slot.seat.role).info("restart asked for", state=str(slot.state))
        if slot.scope is not None:
            slot.renew = True
            slot.scope.cancel()
        elif slot.ended.is_set():
            slot.seat.mailbox.reopen()
            slot.ended = trio.Event()
            slot.restarts += 1
            self._change(slot, State.RESTARTING)
            nursery.start_soon(self._keep, slot, [], name=slot.seat.role)
        else:
            slot.hurry.set()

    def _slot(self, role: str) -> _Slot:
        slot = self._slots.get(role)
        if slot is None:
            raise NotFoundError(f"no service {role!r}", hint=f"services are: {', '.join(self._slots)}")
        return slot

    def request_stop(self, reason: str) -> None:
        """Begin the orderly stop; `run` returns when it is over. Later calls change nothing."""
        if not self._stop.is_set():
            self._stop_reason = reason
            self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._stop.is_set()

    def abort(self) -> None:
        """Cancel everything now, without the phases."""
        self._scope.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the roles in order, keep them, and return after a stop.

        `task_status` is started when each role has started once or failed once. Raises the error of an essential role
        whose first start failed. *Cancellation*: cancels all actors and waits for their clean-up.
        """
        failures: list[BaseException] = []
        # The owner of all actors. Its children (`_keep`) raise nothing but Cancelled.
        with self._scope:
            async with trio.open_nursery() as nursery:  # noqa: TID251 - see above
                self._nursery = nursery
                for slot in self._slots.values():
                    nursery.start_soon(self._keep, slot, failures, name=slot.seat.role)
                    with trio.move_on_after(limits.SERVICE_START_SECONDS_MAX):
                        await slot.settled.wait()
                    if failures:
                        break
                if not failures:
                    task_status.started()
                    await self._stop.wait()
                await self._stop_in_phases(self._stop_reason or "the server could not start")
                nursery.cancel_scope.cancel()
        self._nursery = None
        if failures:
            raise failures[0]

    async def _stop_in_phases(self, reason: str) -> None:
        for slot in self._slots.values():
            slot.seat.mailbox.close(f"the server is stopping ({reason})")
        deadline = trio.current_time() + limits.STOP_GRACE_SECONDS
        ranks = sorted({slot.stop_rank for slot in self._slots.values()})
        for rank in ranks:
            if rank == ranks[-1]:
                await self._before_last()
            group = [slot for slot in self._slots.values() if slot.stop_rank == rank and slot.began]
            for slot in group:
                slot.seat.stopping.set()
            with trio.move_on_at(max(deadline, trio.current_time() + limits.STOP_RANK_SECONDS_MIN)):
                for slot in group:
                    await slot.ended.wait()
            for slot in group:
                if slot.scope is not None:
                    get_logger(slot.seat.role).warning("did not finish in time and is cancelled")
                    slot.scope.cancel()
                await slot.ended.wait()

    async def _keep(self, slot: _Slot, failures: list[BaseException]) -> None:
        try:
            while not slot.seat.stopping.is_set():
                error = await self._run_once(slot)
                if slot.renew and not self._stop.is_set():
                    slot.restarts += 1
                    slot.settled.set()
                    self._change(slot, State.RESTARTING)
                    continue
                if error is None:
                    return
                first = not slot.settled.is_set()
                if first and slot.essential:
                    failures.append(error)
                    slot.settled.set()
                    return
                slot.settled.set()
                if not await self._wait_for_restart(slot):
                    return
        finally:
            slot.seat.mailbox.close("it has stopped")
            slot.seat.mailbox.refuse_all("it has stopped")
            if slot.state is not State.FAILED:
                self._change(slot, State.DEAD)
            slot.ended.set()
            slot.settled.set()

    async def _run_once(self, slot: _Slot) -> BaseException | None:
        """Build and run the actor; the error it died of, or None when it ended as it should."""
        started_at = self._clock.monotonic()
        error = await self._life(slot)
        if error is None and slot.renew:
            return None
        if error is None and not slot.seat.stopping.is_set() and not self._stop.is_set():
            error = EndedUnasked(f"{slot.seat.role} returned although nobody had asked it to stop")
        if error is None:
            return None
        if self._clock.monotonic() - started_at >= limits.RESTART_HEALTHY_SECONDS:
            slot.failures_in_a_row = 0
        slot.failures_in_a_row += 1
        slot.last_error = describe(error)
        lost = slot.seat.mailbox.refuse_all("it failed and restarts")
        get_logger(slot.seat.role).error("service failed", error=slot.last_error, messages_refused=lost, exc_info=error)
        return error

    async def _life(self, slot: _Slot) -> BaseException | None:
        slot.fault, slot.renew = None, False
        slot.began = True
        try:
            with trio.CancelScope() as slot.scope:
                await slot.factory(slot.seat).run(task_status=_Started(self, slot))
        except Exception as error:  # noqa: BLE001 - the one place where an actor's death is met; logged by the caller
            return error
        except BaseExceptionGroup as group:
            # An outer cancellation and a failure may come together: the failure is told, the cancellation goes on.
            cancelled, rest = group.split(trio.Cancelled)
            if cancelled is None or not (rest is None or isinstance(rest, Exception)):
                raise
            if rest is not None:
                slot.last_error = describe(rest)
                get_logger(slot.seat.role).error("failed while it was cancelled", exc_info=rest)
            raise cancelled from None
        finally:
            scope, slot.scope = slot.scope, None
        if slot.fault is not None and scope is not None and scope.cancelled_caught:
            return InjectedFault(slot.fault)
        return None

    async def _wait_for_restart(self, slot: _Slot) -> bool:
        """Back off; False when the role is given up or the server stops."""
        if slot.failures_in_a_row > limits.RESTARTS_BEFORE_FAILED:
            reason = f"it failed {slot.failures_in_a_row} times in a row: {slot.last_error}"
            slot.seat.mailbox.close(reason)
            self._change(slot, State.FAILED)
            get_logger(slot.seat.role).critical("service given up", error=slot.last_error)
            return False
        self._change(slot, State.RESTARTING)
        seconds = min(
            limits.RESTART_BACKOFF_SECONDS_MIN * 2 ** (slot.failures_in_a_row - 1), limits.RESTART_BACKOFF_SECONDS_MAX
        )
        async with trio.open_nursery() as waiting:  # noqa: TID251 - two waits, the first one ends both

            async def until_stopping() -> None:
                await slot.seat.stopping.wait()
                waiting.cancel_scope.cancel()

            async def until_hurried() -> None:
                await slot.hurry.wait()
                waiting.cancel_scope.cancel()

            slot.hurry = trio.Event()
            waiting.start_soon(until_stopping)
            waiting.start_soon(until_hurried)
            await self._clock.sleep(seconds)
            waiting.cancel_scope.cancel()
        if slot.seat.stopping.is_set():
            return False
        slot.restarts += 1
        return True

    def _change(self, slot: _Slot, state: State) -> None:
        if slot.state is state:
            return
        slot.state, slot.since = state, self._clock.now()
        get_logger(slot.seat.role).info(f"service is {state}", restarts=slot.restarts)
        self._observe(_view(slot))


class _Started:
    """The task status handed to an actor: its start is a change of state."""

    def __init__(self, supervisor: Supervisor, slot: _Slot) -> None:
        self._supervisor = supervisor
        self._slot = slot

    def started(self, _value: None = None) -> None:
        """The actor serves."""
        self._supervisor._change(self._slot, State.RUNNING)  # noqa: SLF001 - a part of the supervisor
        self._slot.settled.set()


def describe(error: BaseException) -> str:
    """One line for people: the first leaf of a group, with its kind unless it is an error of ours."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, IbsError):
        return error.message
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _view(slot: _Slot) -> ServiceState:
    return ServiceState(
        slot.seat.role, slot.duty, slot.state, slot.since, slot.restarts, slot.last_error, slot.seat.mailbox.waiting
    )


def by_role(states: list[ServiceState]) -> Mapping[str, ServiceState]:
    """The same states, by role."""
    return {state.role: state for state in states}
