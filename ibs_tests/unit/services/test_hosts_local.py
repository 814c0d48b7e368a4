"""The server's own backups run its hooks, and none that the host does not name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.core.tasks import TaskType
from ibs.engine.task import Task
from ibs.errors import FailedError
from ibs.runtime.pool import InlinePool
from ibs.services.hosts_local import with_hooks
from ibs.wire.system import BackupRun
from ibs_tests.unit.services.conftest import House


@pytest.fixture(autouse=True)
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "hooks.d"
    folder.mkdir()
    for name, text in (("before", 'echo "of $IBS_GROUP"'), ("after", 'echo "it was $IBS_STATUS"'), ("bad", "exit 9")):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    config = tmp_path / "agent.toml"
    config.write_text('hooks = ["before", "after", "bad"]')
    config.chmod(0o600)
    monkeypatch.setenv("IBS_AGENT_CONFIG", str(config))


async def backed_up(house: House, *, fails: bool = False, pre: str = "", post: str = "") -> tuple[str, str, list[str]]:
    seen: list[str] = []

    async def work(_task: Task, run: BackupRun) -> str | None:
        seen.append(run.store)
        if fails:
            raise FailedError("no disk")
        return "made"

    run = BackupRun(store="main", sources=["a.tree:/a"], backup_id="n", pre_hook=pre, post_hook=post)
    task = await house.tasks.start(TaskType.BACKUP, "x", "root@ibs")
    await task.run(lambda task: with_hooks(work, InlinePool(), "node1")(task, run))
    return str(task.state), task.record.message if seen else "not begun", await house.log(task.upid)


async def test_before_and_after(house: House) -> None:
    state, message, log = await backed_up(house, pre="before", post="after")
    assert (state, message) == ("OK", "made")
    assert log[:2] == ["before: of host/n", "after: it was OK"]


async def test_what_comes_after_a_failure(house: House) -> None:
    state, message, log = await backed_up(house, fails=True, post="after")
    assert (state, message) == ("FAILED", "no disk")
    assert "after: it was FAILED" in log


async def test_hooks_that_fail(house: House) -> None:
    assert (await backed_up(house, pre="bad"))[:2] == ("FAILED", "not begun")
    state, _, log = await backed_up(house, post="bad")
    assert state == "WARNING"
    assert "hook bad failed with status 9" in log


async def test_hooks_that_the_host_does_not_name(house: House) -> None:
    for more in ({"pre": "other"}, {"post": "other"}):
        state, message, log = await backed_up(house, **more)
        assert (state, message) == ("FAILED", "not begun")
        assert "TASK ERROR: refused by this host: hook other is not among those it runs" in log
    assert (await backed_up(house))[0] == "OK"
