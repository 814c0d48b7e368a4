"""Following a task: every line once, its end as exit status, over broken connections, without stopping the task."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio

from ibs.cli.follow import end, follow_task, progress_bar
from ibs.cli.output import Output
from ibs.errors import ServerUnreachable
from ibs.wire.system import TaskLogLine, TaskView
from ibs_tests.support.fakeapi import FakeApi

UPID = "UPID:n:1:2:3:4:verify:main:root@ibs:"


def line(number: int, text: str, level: str = "info") -> TaskLogLine:
    return TaskLogLine(n=number, time="2026-11-22T19:00:00Z", level=level, text=text)


def task(state: str) -> TaskView:
    return TaskView(upid=UPID, type="verify", id="main", auth_id="root@ibs", state=state, started="t", files=3)


def in_turn(*answers: Any) -> Callable[[], Any]:
    """Each call the next answer; the last for ever."""
    left = list(answers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def api_with(lines: Any, view: Any) -> FakeApi:
    api = FakeApi()
    api.answers["LINES", f"/tasks/{UPID}/log"] = lines
    api.answers["GET", f"/tasks/{UPID}"] = view
    return api


@pytest.mark.parametrize(("state", "status"), [("OK", 0), ("WARNING", 4), ("FAILED", 1), ("CANCELLED", 130)])
async def test_the_end_of_the_task_is_the_exit_status(
    state: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    api = api_with([line(0, "one"), line(1, "odd", "warning"), line(2, f"TASK {state}")], task(state))
    assert await follow_task(api, UPID, Output.TEXT, detach=False) == status
    out, err = capsys.readouterr()
    assert out.splitlines() == ["one", f"TASK {state}"]
    assert err == "warning: odd\n"


async def test_json_is_the_task_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    api = api_with([line(0, "one")], task("OK"))
    assert await follow_task(api, UPID, Output.JSON, detach=False) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "OK"


async def test_detached_says_the_upid(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeApi()
    assert await follow_task(api, UPID, Output.TEXT, detach=True) == 0
    assert capsys.readouterr().out == UPID + "\n"
    assert await follow_task(api, UPID, Output.JSON, detach=True) == 0
    assert json.loads(capsys.readouterr().out) == {"upid": UPID}
    assert api.asked == []


async def test_a_broken_connection_is_taken_up_again_after_the_last_line(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = [line(0, "one"), line(1, "two"), ServerUnreachable("the connection broke")]
    rest = [line(2, "three")]
    api = api_with(in_turn(cut, rest), in_turn(task("running"), task("running"), task("OK")))
    assert await follow_task(api, UPID, Output.TEXT, detach=False) == 0
    assert capsys.readouterr().out.splitlines() == ["one", "two", "three"]
    assert [sent["from"] for method, _path, sent in api.asked if method == "LINES"] == [0, 2]


async def test_the_rest_of_the_log_comes_although_the_task_ended_meanwhile(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = [line(0, "one"), ServerUnreachable("the connection broke")]
    api = api_with(in_turn(cut, [line(1, "TASK OK")]), task("OK"))
    assert await follow_task(api, UPID, Output.TEXT, detach=False) == 0
    assert capsys.readouterr().out.splitlines() == ["one", "TASK OK"]


async def test_a_log_that_keeps_breaking_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    api = api_with([ServerUnreachable("the connection broke")], task("running"))
    with pytest.raises(ServerUnreachable):
        await follow_task(api, UPID, Output.TEXT, detach=False)


async def test_a_server_that_is_gone_is_told(autojump_clock: trio.testing.MockClock) -> None:
    gone = ServerUnreachable("no answer")
    api = api_with([line(0, "one"), gone], gone)
    with pytest.raises(ServerUnreachable):
        await follow_task(api, UPID, Output.TEXT, detach=False)


async def test_whoever_stops_looking_does_not_stop_the_task(capsys: pytest.CaptureFixture[str]) -> None:
    api = api_with([], task("running"))
    with trio.move_on_after(0.01) as scope:
        await follow_task(api, UPID, Output.TEXT, detach=False)
    assert scope.cancelled_caught
    assert f"task log {UPID} --follow" in capsys.readouterr().err


async def test_lines_go_above_the_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    api = api_with([line(0, "[odd] :x: one", "warning")], task("OK"))
    assert await follow_task(api, UPID, Output.TEXT, detach=False) == 0
    out, err = capsys.readouterr()
    assert "[odd] :x: one" in err
    assert out == ""


def test_the_bar_is_silent_when_piped() -> None:
    assert progress_bar("x").disable


def test_end_raises_only_for_trouble() -> None:
    end(0)
    with pytest.raises(BaseException, match="4"):
        end(4)
