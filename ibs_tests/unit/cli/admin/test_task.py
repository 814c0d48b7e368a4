"""`ironcore-backup task …`: listings ask for the right states; show names each stage; stop and log do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.common import TaskStarted
from ibs.wire.jobs import TaskKeeping
from ibs.wire.session import StageFigures
from ibs.wire.system import TaskLogLine, TaskView
from ibs_tests.support.fakeapi import install, invoke

UPID = "UPID:n:1:2:3:4:backup:x:root@ibs:"
TASK = TaskView(
    upid=UPID,
    type="backup",
    id="main:host/x",
    auth_id="root@ibs",
    state="running",
    started="2026-11-22T19:00:00Z",
    done_bytes=1 << 20,
    stages={"compress": StageFigures(busy_seconds=2.5, wait_seconds=0.5, bytes=1 << 20, items=3)},
)


def test_list_filters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/tasks"] = [TASK]
    assert UPID in invoke(root, "task", "list", "--state", "running", "--type", "backup").output
    assert api.asked[0][2] == {"limit": 50, "state": "running", "type": "backup"}
    assert invoke(root, "task", "list", "--state", "sleeping").exit_code == 2


def test_show_names_the_stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", f"/tasks/{UPID}"] = TASK
    shown = invoke(root, "task", "show", UPID).output
    assert "compress" in shown
    assert "busy" in shown


def test_log_prints_every_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    line = TaskLogLine(n=0, time="2026-11-22T19:00:00Z", level="warning", text="[odd] file changed")
    api.answers["LINES", f"/tasks/{UPID}/log"] = [line]
    assert "warning: [odd] file changed" in invoke(root, "task", "log", UPID).output


def test_stop_and_unknown_tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", f"/tasks/{UPID}/stop"] = TASK
    assert "stopping" in invoke(root, "task", "stop", UPID).output
    assert invoke(root, "task", "show", "UPID:none").exit_code == 5


def test_more_filters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/tasks"] = [TASK]
    since = "2026-11-22T19:00:00Z"
    invoke(root, "task", "list", "--host", "web01", "--job", "j", "--user", "a@ibs", "--since", since, "--until", "1h")
    asked = api.asked[0][2]
    assert (asked["host"], asked["job"], asked["user"], asked["since"]) == ("web01", "j", "a@ibs", since)
    assert asked["until"] > since
    assert invoke(root, "task", "list", "--since", "yesterday").exit_code == 2


def test_a_log_goes_to_a_new_file_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    line = TaskLogLine(n=0, time="2026-11-22T19:00:00Z", level="warning", text="odd")
    api.answers["LINES", f"/tasks/{UPID}/log"] = [line]
    target = tmp_path / "task.log"
    assert "1 lines written" in invoke(root, "task", "log", UPID, "--output-file", str(target)).output
    assert target.read_text() == "2026-11-22T19:00:00Z warning odd\n"
    assert invoke(root, "task", "log", UPID, "--output-file", str(target)).exit_code == 2


def test_retry_and_keep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", f"/tasks/{UPID}/retry"] = TaskStarted(upid="UPID:new")
    assert "UPID:new" in invoke(root, "task", "retry", UPID, "--detach").output
    api.answers["GET", "/worker/task-keeping"] = TaskKeeping(count=10)
    api.answers["POST", "/worker/task-keeping"] = TaskKeeping(count=10, days=90)
    assert "however old" in invoke(root, "task", "keep").output
    assert "90 days" in invoke(root, "task", "keep", "--days", "90").output
    assert api.asked[-1][2] == TaskKeeping(count=10, days=90)
