"""One backup that the server asked for: allowed by the host, made by the client's pipeline, tried again over bad lines.

Used by `client.agent.loop`. The task is the server's: what is to be told goes to its log, and only the server's word
ends it. Whatever the line does, a backup goes on from what the server already holds, until it is made, fails for a
reason of its own, or is the agent's no longer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import trio

from ibs.client.agent.hooks import run_hook
from ibs.client.agent.policy import Policy
from ibs.client.backup.plan import BackupOutcome, BackupPlan
from ibs.client.backup.run import run_backup
from ibs.client.http import ApiClient
from ibs.client.keys import load_key, wrapped_key
from ibs.client.transport import HttpBackupTransport
from ibs.core import limits
from ibs.core.tasks import TaskState
from ibs.errors import FailedError, FormatError, IbsError, NotFoundError, ServerUnreachable, SessionLost
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.retry import Backoff, Entropy
from ibs.units import format_bytes
from ibs.version import VERSION
from ibs.wire.hosts import AgentEnd, AgentRun
from ibs.wire.session import LogLine, StageReport

_log = get_logger("agent")
LoadPolicy = Callable[[], Policy]


class Job:
    """One task in hand. `host` is the host's name at the server, `api` speaks for its agent."""

    def __init__(
        self,
        order: AgentRun,
        host: str,
        api: ApiClient,
        load_policy: LoadPolicy,
        *,
        pool: Pool,
        clock: Clock,
        entropy: Entropy = os.urandom,
    ) -> None:
        self.upid = order.upid
        self._run = order.run
        self._host = host
        self._api = api
        self._load_policy = load_policy
        self._pool = pool
        self._clock = clock
        self._entropy = entropy
        self._scope = trio.CancelScope()
        self._began = clock.monotonic()
        self.stopping = False
        self.ended = False
        """The work is over; the server may still have to be told."""
        self._attempt = trio.CancelScope()

    def stop(self) -> None:
        """The server wants it no longer."""
        self.stopping = True
        self._scope.cancel()

    def begin_again(self) -> None:
        """Its connections are most likely dead, although nobody said so: make new ones, unless they are new."""
        if self._clock.monotonic() - self._began >= limits.AGENT_GAP_SECONDS:
            self._attempt.cancel()

    async def run(self) -> None:
        """Do it, and tell the server how it ended. Raises nothing of ours.

        *Cancellation*: the session is given up, and may be resumed.
        """
        with self._scope:
            end = await self._end()
            if end is not None:
                self.ended = True
                _log.info("a task has ended here", task=self.upid, status=end.status, message=end.message)
                await self._tell(end)

    async def _end(self) -> AgentEnd | None:
        """How it ended; None when the server does not want it from this agent any more."""
        try:
            return AgentEnd(status=TaskState.OK.value, message=await self._whole())
        except IbsError as error:
            if _not_ours(error):
                _log.info("a task is not this agent's any more", task=self.upid)
                return None
            _log.warning("a backup failed", task=self.upid, error=error.message)
            return AgentEnd(status=TaskState.FAILED.value, message=error.message, code=error.code, hint=error.hint)
        except Exception as error:  # noqa: BLE001 - the border of a task: told to the server, nothing gets lost
            _log.exception("a backup failed in an unforeseen way", task=self.upid)
            message = f"internal error ({type(error).__name__}); the log of the agent on {self._host} has the details"
            return AgentEnd(status=TaskState.FAILED.value, message=message, code=FailedError.code)

    async def _whole(self) -> str:
        """Both hooks and the backup between them; the closing message."""
        policy = await self._pool.disk(self._load_policy)
        plan = await self._pool.disk(self._plan, policy)
        run = self._run
        facts = {"IBS_TASK": self.upid, "IBS_STORE": run.store, "IBS_GROUP": plan.group, "IBS_HOST": self._host}
        if run.pre_hook:
            await self._hook(policy, run.pre_hook, facts | {"IBS_PHASE": "pre"})
        status = "FAILED"
        try:
            outcome = await self._backup(plan)
            status = outcome.status
        finally:
            if run.post_hook:
                await self._post_hook(policy, run.post_hook, facts | {"IBS_PHASE": "post", "IBS_STATUS": status})
        return (
            f"snapshot {outcome.snapshot}: {outcome.files} files, {format_bytes(outcome.bytes_seen)}, "
            f"{format_bytes(outcome.new_bytes)} new in the datastore"
        )

    def _plan(self, policy: Policy) -> BackupPlan:
        """What the host lets the server have. Blocks. Raises RefusedError, SourceUnreadable, UsageError."""
        run = self._run
        key = load_key(Path(policy.keyfile)) if policy.keyfile else None
        return BackupPlan(
            store=run.store,
            group=f"{run.backup_type}/{run.backup_id}",
            namespace=run.namespace,
            sources=policy.allow(run),
            owner=self._api.auth_id,
            client=f"ironcore-backup-client {VERSION}, agent of {self._host}",
            excludes=tuple(run.exclude),
            all_file_systems=run.all_file_systems,
            reread=run.reread,
            reread_every=run.reread_every,
            bandwidth=run.bandwidth,
            keys=key.keys if key is not None else None,
            sign_only=key is not None and key.mode == "sign-only",
            wrapped_key=wrapped_key(key),
        )

    async def _backup(self, plan: BackupPlan) -> BackupOutcome:
        """The backup, tried again for as long as the line is to blame and the task is this agent's."""
        pauses = self._pauses()
        while True:
            self._began = self._clock.monotonic()
            with trio.CancelScope() as self._attempt:
                try:
                    async with HttpBackupTransport(self._api, task=self.upid) as transport:
                        return await run_backup(transport, plan, pool=self._pool, clock=self._clock)
                except (ServerUnreachable, SessionLost) as error:
                    _log.warning("a backup was interrupted and is taken up again", task=self.upid, why=error.message)
                except FormatError as error:
                    if plan.cipher is None:
                        raise
                    # It can name what is in the archive, and the server must not learn that (PROTOCOLS 18).
                    _log.warning("a backup failed", task=self.upid, error=error.message)
                    raise FailedError(
                        "the previous snapshot is not sound; what is wrong with it is told on the host only",
                        hint=f"see the agent's log on {self._host}; verify the snapshot, back up with --reread",
                    ) from error
            await self._clock.sleep(next(pauses))

    async def _hook(self, policy: Policy, name: str, facts: dict[str, str]) -> None:
        path = await self._pool.disk(policy.hook, name)
        await self._report(await run_hook(path, facts))

    async def _post_hook(self, policy: Policy, name: str, facts: dict[str, str]) -> None:
        """The backup is what it is: a hook that fails after it is a warning. It runs for a stopped backup as well."""
        with trio.move_on_after(limits.HOOK_SECONDS_MAX, shield=True):
            try:
                await self._hook(policy, name, facts)
            except IbsError as error:
                await self._report([LogLine(level="warning", text=error.message)])

    async def _report(self, lines: list[LogLine]) -> None:
        """Lines for the task's log; not worth failing for."""
        try:
            for at in range(0, len(lines), limits.BACKUP_REPORT_LINES):
                report = StageReport(lines=lines[at : at + limits.BACKUP_REPORT_LINES])
                await self._api.post(f"/agent/tasks/{self.upid}/log", type(None), report, repeat=True)
        except IbsError as error:
            _log.warning("lines for a task's log were lost", task=self.upid, why=error.message, lines=len(lines))

    async def _tell(self, end: AgentEnd) -> None:
        """Tell the end until it was heard, or nobody wants to hear it."""
        for pause in self._pauses():
            try:
                await self._api.post(f"/agent/tasks/{self.upid}/end", type(None), end, repeat=True)
            except IbsError as error:
                if not isinstance(error, ServerUnreachable) and error.exit_status != ServerUnreachable.exit_status:
                    _log.error("the end of a task was not taken", task=self.upid, error=error.message)
                    return
                await self._clock.sleep(pause)
            else:
                return

    def _pauses(self) -> Iterator[float]:
        return pauses(self._entropy)


def pauses(entropy: Entropy) -> Iterator[float]:
    """Growing pauses with jitter, without an end: an agent gives up only when it is told to."""
    low, high = limits.AGENT_BACKOFF_SECONDS_MIN, limits.AGENT_BACKOFF_SECONDS_MAX
    return Backoff(attempts=sys.maxsize, seconds_min=low, seconds_max=high).pauses(entropy)


def _not_ours(error: IbsError) -> bool:
    """The server said that the task is not given to this agent (`services.hosts`)."""
    return isinstance(error, NotFoundError) and error.details.get("given") is False
