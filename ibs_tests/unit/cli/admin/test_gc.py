"""`ironcore-backup gc …`: what is asked of the server, and what is said of its answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.common import TaskStarted
from ibs.wire.gc import GcRunView, GcStart, GcStatus, GcTrashView, GcUndo
from ibs.wire.system import TaskLogLine, TaskView
from ibs_tests.support.fakeapi import FakeApi, install, invoke

UPID = "UPID:n:1:2:3:4:gc:main:root@ibs:"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeApi:
    api = install(monkeypatch, tmp_path)
    line = TaskLogLine(n=0, time="2026-11-22T19:00:00Z", level="info", text="freed now: 3 chunks, 2.0 MiB")
    api.answers["LINES", f"/tasks/{UPID}/log"] = [line]
    api.answers["GET", f"/tasks/{UPID}"] = TaskView(
        upid=UPID, type="gc", id="main", auth_id="root@ibs", state="OK", started="2026-11-22T19:00:00Z"
    )
    for path in ("/datastores/main/gc", "/datastores/main/gc/undo"):
        api.answers["POST", path] = TaskStarted(upid=UPID)
    return api


def test_start_follows_the_task_and_passes_every_wish(api: FakeApi) -> None:
    done = invoke(root, "gc", "start", "main")
    assert (done.exit_code, "freed now: 3 chunks" in done.output) == (0, True)
    assert api.asked[0][2] == GcStart()
    wishes = "--dry-run --reclaim now --empty-bin --accept-missing --allow-share 80 --io-limit 10MiB/s --detach"
    assert invoke(root, "gc", "start", "main", *wishes.split()).output.strip() == UPID
    assert [body for _, path, body, *_ in api.asked if path == "/datastores/main/gc"][-1] == GcStart(
        dry_run=True, reclaim_now=True, empty_bin=True, accept_missing=True, allow_share=80, io_limit=10 << 20
    )


@pytest.mark.parametrize("wish", [("--reclaim", "later"), ("--allow-share", "0"), ("--io-limit", "fast")])
def test_wishes_that_make_no_sense_are_refused(api: FakeApi, wish: tuple[str, str]) -> None:
    assert invoke(root, "gc", "start", "main", *wish).exit_code == 2


def test_undo_of_the_last_run_or_of_all(api: FakeApi) -> None:
    assert invoke(root, "gc", "undo", "main").exit_code == 0
    assert api.asked[0][2] == GcUndo()
    invoke(root, "gc", "undo", "main", "--all", "--detach")
    assert api.asked[-1][2] == GcUndo(everything=True)


def test_pause_and_resume(api: FakeApi) -> None:
    for verb, said in (("pause", "paused"), ("resume", "goes on")):
        api.answers["POST", f"/datastores/main/gc/{verb}"] = GcStatus(store="main", state="paused")
        assert invoke(root, "gc", verb, "main").output.strip() == f"garbage collection of main {said}"
    assert json.loads(invoke(root, "gc", "pause", "main", "--output", "json").output)["state"] == "paused"


def test_status_shows_progress_trash_and_what_holds_things_up(api: FakeApi) -> None:
    last = GcRunView(upid=UPID, by="root@ibs", started="2026-11-22T01:00:00Z", result="refused", text="too much")
    trash = GcTrashView(epoch=7, since="2026-11-22T01:00:00Z", until="2026-11-23T01:00:00Z", chunks=2, bytes=3 << 20)
    rows = [
        GcStatus(
            store="main",
            state="running",
            phase="marking",
            unit="snapshots",
            done=1000,
            total=4000,
            rate=50.0,
            eta_seconds=60.0,
            last=last,
            trash=[trash],
            bin_snapshots=2,
            waits="the clock jumped",
        ),
        GcStatus(store="b", state="interrupted", running=GcRunView(upid="", by="", started="2026-11-20T01:00:00Z")),
    ]
    api.answers["GET", "/gc/status"] = rows
    shown = invoke(root, "gc", "status").output
    for text in ("main: last run: too much", "the clock jumped", "b: the run that began 2026-11-20T01:00:00Z was cut"):
        assert text in shown
    plain = json.loads(invoke(root, "gc", "status", "--output", "json").output)
    assert (plain[0]["eta_seconds"], plain[0]["trash"][0]["until"]) == (60.0, "2026-11-23T01:00:00Z")
    wide = " ".join(shown.split())
    for text in ("marking", "3.0 MiB", "interrupted", "never"):
        assert text in wide
