"""The server as the built-in agent of its own host: its backups run the hooks of this host, as agents do elsewhere.

Used by `services.roster`. Which hooks there are is said by the same `agent.toml` and `hooks.d` that an agent reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ibs.client.agent.hooks import run_hook
from ibs.client.agent.policy import load_policy, policy_file
from ibs.core import limits
from ibs.errors import IbsError
from ibs.ports.pool import Pool
from ibs.services.hosts import LocalBackup
from ibs.wire.system import BackupRun

if TYPE_CHECKING:
    from ibs.engine.task import Task


def with_hooks(work: LocalBackup, pool: Pool, node: str) -> LocalBackup:
    """`work` with the hooks that its run names: a failing one before it ends it, one after it is a warning.

    Raises RefusedError before anything is done when this host does not run a hook of that name.
    """

    async def hook(task: Task, run: BackupRun, name: str, **facts: str) -> None:
        group = f"{run.backup_type}/{run.backup_id}"
        facts |= {"IBS_TASK": task.upid, "IBS_STORE": run.store, "IBS_GROUP": group, "IBS_HOST": node}
        path = await pool.disk(lambda: load_policy(policy_file(None)).hook(name))
        for line in await run_hook(path, facts):
            task.log(line.level, line.text)

    async def after(task: Task, run: BackupRun, status: str) -> None:
        with trio.move_on_after(limits.HOOK_SECONDS_MAX, shield=True):
            try:
                await hook(task, run, run.post_hook, IBS_PHASE="post", IBS_STATUS=status)
            except IbsError as error:
                task.warn(error.message)

    async def both(task: Task, run: BackupRun) -> str | None:
        if run.post_hook:
            await pool.disk(lambda: load_policy(policy_file(None)).hook(run.post_hook))
        if run.pre_hook:
            await hook(task, run, run.pre_hook, IBS_PHASE="pre")
        status = "FAILED"
        try:
            message = await work(task, run)
            status = "WARNING" if task.warnings else "OK"
        finally:
            if run.post_hook:
                await after(task, run, status)
        return message

    return both
