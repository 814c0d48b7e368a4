"""The agent of a host: asks its server for orders for ever, and follows them. Connections go outwards only.

Used by `cli`. One poll is open at a time; the server answers it when there is something to do, or after `hold_seconds`.
An answer that does not come in time means a line that swallows everything: connections are made anew then, those of
running backups too. Between failures the agent pauses, longer each time and with jitter. It ends by itself only where
trying again cannot help: another certificate, an identity that the server does not know, a second agent of this host.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import partial

import trio

from ibs.client.agent.identity import AgentIdentity, AgentStatus, system_name
from ibs.client.agent.job import Job, LoadPolicy, pauses
from ibs.client.http import ApiClient
from ibs.core import limits
from ibs.core.names import format_time
from ibs.errors import (
    ConflictError,
    IbsError,
    NotAuthenticated,
    RefusedError,
    ServerUnreachable,
    TlsFingerprintMismatch,
)
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.retry import Entropy
from ibs.version import VERSION
from ibs.wire.hosts import AgentOrders, AgentPoll

_log = get_logger("agent")
_HOPELESS = (NotAuthenticated, TlsFingerprintMismatch)


class Agent:
    """`polls` and `work` are clients with the agent's identity; `polls` does not try again by itself.

    `show` is told what the agent says of itself, whenever that changes and now and then.
    """

    def __init__(
        self,
        identity: AgentIdentity,
        polls: ApiClient,
        work: ApiClient,
        load_policy: LoadPolicy,
        *,
        pool: Pool,
        clock: Clock,
        show: Callable[[AgentStatus], None] = lambda _status: None,
        entropy: Entropy = os.urandom,
    ) -> None:
        self._identity = identity
        self._polls = polls
        self._work = work
        self._load_policy = load_policy
        self._pool = pool
        self._clock = clock
        self._show = show
        self._entropy = entropy
        self._instance = secrets.token_hex(8)
        self._jobs: dict[str, Job] = {}
        self._connected = False
        self._ever = False
        self._since = format_time(clock.now())
        self._last_contact = ""
        self._last_error = ""
        self._patience = limits.AGENT_POLL_SECONDS + limits.AGENT_GAP_SECONDS

    @property
    def status(self) -> AgentStatus:
        """What it says of itself."""
        return AgentStatus(
            name=self._identity.name,
            server=self._identity.server,
            pid=os.getpid(),
            version=VERSION,
            state="connected" if self._connected else "trying",
            since=self._since,
            last_contact=self._last_contact,
            last_error=self._last_error,
            running=[*self._jobs],
        )

    async def run(self) -> None:
        """Until cancelled. Raises RefusedError (and its kinds) where trying again cannot help.

        *Cancellation*: running backups give their sessions up; the server keeps what they delivered.
        """
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the jobs
            nursery.start_soon(self._keep_showing)
            waits = pauses(self._entropy)
            while True:
                if await self._once(nursery):
                    waits = pauses(self._entropy)
                else:
                    await self._clock.sleep(next(waits))

    async def _once(self, nursery: trio.Nursery) -> bool:
        """One poll, followed. False when there was none. Raises where trying again cannot help."""
        running = [upid for upid, job in self._jobs.items() if not job.stopping]
        poll = AgentPoll(instance=self._instance, version=VERSION, system=system_name(), running=running)
        try:
            with trio.fail_after(self._patience):
                orders = await self._polls.post("/agent/poll", AgentOrders, poll)
        except trio.TooSlowError:
            self._lost(ServerUnreachable(f"no answer from {self._identity.server} in {self._patience:g} seconds"))
            for job in self._jobs.values():
                job.begin_again()
            return False
        except IbsError as error:
            second = isinstance(error, ConflictError) and not self._ever
            if second or isinstance(error, _HOPELESS) or type(error) is RefusedError:
                raise
            self._lost(error)
            return False
        self._heard(orders)
        if not self._follow(orders, nursery) and (orders.start or orders.stop or orders.again):
            await self._clock.sleep(1)  # nothing that could be followed now: the next answer would come at once
        return True

    def _heard(self, orders: AgentOrders) -> None:
        self._last_contact = format_time(self._clock.now())
        if orders.hold_seconds:
            self._patience = orders.hold_seconds + min(limits.AGENT_GAP_SECONDS, orders.hold_seconds)
        self._ever = True
        if not self._connected:
            self._connected, self._since, self._last_error = True, self._last_contact, ""
            _log.info("connected", server=self._identity.server, host=self._identity.name)
            self._show(self.status)

    def _lost(self, error: IbsError) -> None:
        if self._connected or not self._last_error:
            _log.warning("the server cannot be reached; trying again", server=self._identity.server, why=error.message)
        if self._connected:
            self._connected, self._since = False, format_time(self._clock.now())
        self._last_error = error.message
        self._show(self.status)

    def _follow(self, orders: AgentOrders, nursery: trio.Nursery) -> bool:
        """Whether there was something new in it."""
        new = False
        for upid in orders.stop:
            if upid in self._jobs and not self._jobs[upid].stopping:
                new = True
                if not self._jobs[upid].ended:  # else it has heard so, before the answer that it heard came here
                    _log.info("the server stops a task", task=upid)
                self._jobs[upid].stop()
        for upid in orders.again:
            if upid in self._jobs:
                self._jobs[upid].begin_again()
        for order in orders.start:
            if order.upid in self._jobs or len(self._jobs) >= limits.AGENT_RUNS_MAX:
                continue
            new = True
            _log.info("the server gives a task", task=order.upid, sources=list(order.run.sources))
            make = partial(Job, pool=self._pool, clock=self._clock, entropy=self._entropy)
            job = self._jobs[order.upid] = make(order, self._identity.name, self._work, self._load_policy)
            nursery.start_soon(self._do, job)
        if new:
            self._show(self.status)
        return new

    async def _do(self, job: Job) -> None:
        try:
            await job.run()
        finally:
            self._jobs.pop(job.upid, None)
            self._show(self.status)

    async def _keep_showing(self) -> None:
        while True:
            self._show(self.status)
            await self._clock.sleep(limits.AGENT_STATUS_SECONDS)
