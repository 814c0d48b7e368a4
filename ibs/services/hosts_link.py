"""One agent as the server hears it, and the tasks it was given: who is connected, since when, what it has to be told.

Used by `services.hosts` only; no I/O, everything belongs to the trio thread. Orders are a comparison of what the agent
should have in hand with what its poll says it has, so an answer that was lost costs nothing: the next one says it
again. Invariants: one instance of the program speaks for a host at a time; an agent that is killed is noticed when its
connection closes or after `gap` seconds, a line that swallows everything after `hold` + `gap` seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from ibs.core import limits
from ibs.core.names import format_time
from ibs.engine.session.session import WriteSession
from ibs.engine.task import Task
from ibs.errors import ConflictError
from ibs.ports.clock import Clock
from ibs.wire.hosts import AgentEnd, AgentOrders, AgentPoll, AgentRun
from ibs.wire.system import BackupRun


@dataclass(eq=False)
class Assignment:
    """A task given to an agent. `committed` is the snapshot's name once there is one, `end` what the agent said.

    `lost`: the server ended its session, which the agent may not have heard: its connections may be dead.
    """

    task: Task
    run: BackupRun
    session: WriteSession | None = None
    committed: str = ""
    warned: bool = False
    end: AgentEnd | None = None
    losses: int = 0
    begun: bool = False
    lost: bool = False
    attaching: trio.Lock = field(default_factory=trio.Lock)
    changed: trio.Event = field(default_factory=trio.Event)

    @property
    def over(self) -> bool:
        """Nothing is left to do on the host."""
        return self.end is not None or bool(self.committed) or self.losses > limits.AGENT_LOSSES_MAX

    def wake(self) -> None:
        """Something of it has changed."""
        self.changed.set()
        self.changed = trio.Event()


class Link:
    """What the server knows of one agent. `heard` is the monotonic time of its last request."""

    def __init__(
        self, name: str, clock: Clock, *, hold: float, gap: float, heard: Callable[[], None] = lambda: None
    ) -> None:
        """`heard` is called whenever it is."""
        self.name = name
        self.hold = hold
        self.gap = gap
        self.instance = ""
        self.address = ""
        self.since = ""
        self.given: dict[str, Assignment] = {}
        self.shown_online = False  # what was last told on the bus; for the owner
        self._clock = clock
        self._tell_heard = heard
        self._heard = clock.monotonic()
        self._turn = 0
        self._polling = False
        self._gone = False
        self._changed = trio.Event()

    @property
    def quiet_seconds(self) -> float:
        """How long ago it was heard; 0 while a poll of it waits."""
        return 0.0 if self._polling else max(0.0, self._clock.monotonic() - self._heard)

    @property
    def online(self) -> bool:
        """It was heard, and lately."""
        return bool(self.instance) and self.quiet_seconds < self.gap

    def note(self) -> None:
        """It was heard just now."""
        self._heard = self._clock.monotonic()
        self._tell_heard()

    def enter(self, poll: AgentPoll, address: str) -> tuple[int, bool]:
        """A poll has come: its turn, and whether it is this instance's first.

        Raises ConflictError when another instance is connected.
        """
        first = poll.instance != self.instance
        if first and self.online and not self._gone:
            raise ConflictError(
                f"another agent {self.name} is connected, from {self.address or 'unknown'}",
                hint="stop one of the two, or give this host a name of its own: ironcore-backup host invite NAME",
            )
        if first or not self.online:
            self.since = format_time(self._clock.now())
        self.instance, self.address = poll.instance, address
        self.note()
        self._polling, self._gone = True, False
        self._turn += 1
        self._compare(poll.running)
        self.wake()  # an older poll of the same instance, whose answer nobody waits for any more
        return self._turn, first

    def leave(self, turn: int, *, gone: bool) -> None:
        """That poll is over; `gone`: its connection broke."""
        if turn == self._turn:
            self._polling, self._gone = False, gone
            for one in self.given.values():
                one.wake()  # whoever waits for the agent counts from now

    def forget(self) -> None:
        """Another program will speak for the host: the one that did has no say any more. Its tasks stay given."""
        self.instance = ""
        self._turn += 1
        self._polling, self._gone = False, True
        self.wake()

    async def orders(self, turn: int, running: list[str], stopping: trio.Event) -> AgentOrders:
        """What to tell an agent that has `running` in hand; waits `hold` seconds for something to tell."""
        with trio.move_on_after(self.hold):
            while turn == self._turn and not stopping.is_set():
                orders = self.now(running)
                if orders.start or orders.stop or orders.again:
                    return orders
                await self._changed.wait()
        return self.now(running) if turn == self._turn else AgentOrders()

    def wake(self) -> None:
        """Look again whether there is something to tell."""
        self._changed.set()
        self._changed = trio.Event()

    def give(self, assignment: Assignment) -> None:
        """The agent shall do this."""
        self.given[assignment.task.upid] = assignment
        self.wake()

    def take_back(self, assignment: Assignment) -> None:
        """It shall no longer; if it is at it, it is told to stop."""
        self.given.pop(assignment.task.upid, None)
        self.wake()

    def now(self, running: list[str]) -> AgentOrders:
        """What to tell an agent that has `running` in hand, at once."""
        start = [
            AgentRun(upid=upid, run=one.run) for upid, one in self.given.items() if upid not in running and not one.over
        ]
        stop = [upid for upid in running if upid not in self.given]
        again = [upid for upid in running if upid in self.given and self.given[upid].lost and not self.given[upid].over]
        return AgentOrders(start=start[: limits.AGENT_RUNS_MAX], stop=stop, again=again)

    def _compare(self, running: list[str]) -> None:
        """What an agent had begun and has no more, without having said how it ended, is lost and begins again."""
        for upid, one in self.given.items():
            if upid in running:
                one.begun = True
            elif one.begun and not one.over:
                one.begun = False
                one.losses += 1
                one.task.log("warning", f"the agent of {self.name} was started anew and begins this backup again")
                one.wake()
