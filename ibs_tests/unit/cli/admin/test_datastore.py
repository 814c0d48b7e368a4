"""`ironcore-backup datastore …`: what is asked of the server, what a person reads, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.errors import ConflictError
from ibs.wire.common import TaskStarted
from ibs.wire.datastore import (
    DatastoreAdopt,
    DatastoreCreate,
    DatastoreStats,
    DatastoreView,
    MaintenanceRequest,
    ProbeCheck,
    ProbeResult,
    QuarantineRequest,
    ReleaseRequest,
    UsageRow,
)
from ibs_tests.support.control import sample
from ibs_tests.support.fakeapi import install, invoke

VIEW = DatastoreView(name="main", path="/srv/main", uuid="u", status="offline", reason="not mounted")


def test_create_sends_an_absolute_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores"] = VIEW
    assert invoke(root, "datastore", "create", "main", "--path", "store").exit_code == 0
    sent = api.asked[0][2]
    assert sent == DatastoreCreate(name="main", path=str(Path("store").absolute()), comment="")


def test_a_refusal_ends_with_3_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores"] = ConflictError("/srv holds files already", hint="choose an empty folder")
    done = invoke(root, "datastore", "create", "main", "--path", "/srv")
    assert done.exit_code == 3
    assert "error: /srv holds files already\nhint: choose an empty folder" in done.output


def test_list_shows_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/datastores"] = [VIEW]
    assert "not mounted" in invoke(root, "datastore", "list").output
    assert json.loads(invoke(root, "datastore", "list", "-o", "json").output)[0]["status"] == "offline"
    api.answers["GET", "/datastores"] = []
    assert "datastore create" in invoke(root, "datastore", "list").output


def test_probe_of_an_offline_store_ends_with_6(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    checks = [ProbeCheck(check="mounted", ok=False, detail="the folder is empty")]
    result = ProbeResult(name="main", status="offline", reason="not mounted", checks=checks)
    api.answers["POST", "/datastores/main/probe"] = result
    done = invoke(root, "datastore", "probe", "main")
    assert done.exit_code == 6
    assert "FAIL" in done.output
    assert "the folder is empty" in done.output


def test_stats_tell_bytes_inodes_and_savings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    numbers = {"bytes_total": 1 << 40, "bytes_free": 1 << 39, "inodes_total": 1000, "inodes_free": 999}
    numbers |= {"chunks": 5, "chunk_bytes": 1 << 20, "bad_chunks": 1, "received_chunks": 0, "groups": 1, "snapshots": 2}
    api.answers["GET", "/datastores/main/stats"] = DatastoreStats(
        name="main",
        status="online",
        **numbers,
        quota_bytes_free=None,
        plain_bytes=4 << 20,
        dedup_ratio=4.0,
        open_sessions=0,
        interrupted_sessions=1,
    )
    shown = invoke(root, "datastore", "stats", "main").output
    for words in ("512.0 GiB free of 1.0 TiB", "999 free of 1,000", "1 bad", "4.00 to 1", "1 interrupted"):
        assert words in shown
    assert "what else is unreferenced is not known yet" in shown
    assert "Quota" not in shown


def test_stats_tell_what_can_be_freed_and_how_much_of_a_quota_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/datastores/main/stats"] = sample(
        DatastoreStats,
        quota="project 77",
        quota_bytes_free=1 << 30,
        quota_bytes_total=4 << 30,
        quota_inodes_free=5,
        quota_inodes_total=9,
        trash_chunks=3,
        trash_bytes=2 << 20,
        trash_due_chunks=1,
        trash_due_bytes=1 << 20,
        unreferenced_chunks=4,
        unreferenced_bytes=5 << 20,
        unreferenced_as_of="2026-11-23T03:30:00Z",
        reclaimable_bytes=7 << 20,
    )
    shown = " ".join(invoke(root, "datastore", "stats", "main").output.split())
    assert "1.0 GiB free of 4.0 GiB, 5 free of 9 inodes (project 77)" in shown
    assert (
        "7.0 MiB: 2.0 MiB in trash (3 chunks, 1.0 MiB past the grace); "
        "5.0 MiB unreferenced (4 chunks, as of 2026-11-23T03:30:00Z)"
    ) in shown


def test_remove_says_that_data_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["DELETE", "/datastores/main"] = None
    assert "not touched" in invoke(root, "datastore", "remove", "main").output


def test_quarantine_and_release_say_what_they_did(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    held = DatastoreView(
        name="main", path="/srv", uuid="u", status="quarantined", reason="quarantined since x", warnings=["not noted"]
    )
    api.answers["POST", "/datastores/main/quarantine"] = held
    done = invoke(root, "datastore", "quarantine", "main", "--reason", "a disk lies")
    assert "datastore main is quarantined: quarantined since x" in done.output
    assert "warning: not noted" in done.output
    assert api.asked[0][2] == QuarantineRequest(reason="a disk lies")
    assert invoke(root, "datastore", "release", "main").exit_code == 2
    api.answers["POST", "/datastores/main/release"] = DatastoreView(name="main", path="/srv", uuid="u", status="online")
    done = invoke(root, "datastore", "release", "main", "--cause", "a cable", "-o", "json")
    assert json.loads(done.output)["status"] == "online"
    assert api.asked[-1][2] == ReleaseRequest(cause="a cable")


def test_maintenance_prints_its_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/maintenance"] = TaskStarted(upid="UPID:x")
    done = invoke(root, "datastore", "maintenance", "main", "offline", "--drain", "5", "--detach")
    assert (done.exit_code, done.output.strip()) == (0, "UPID:x")
    assert api.asked[0][2] == MaintenanceRequest(mode="offline", drain_seconds=5)
    assert invoke(root, "datastore", "maintenance", "main", "closed").exit_code == 2


def test_reindex_prints_its_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/reindex"] = TaskStarted(upid="UPID:x")
    assert invoke(root, "datastore", "reindex", "main", "--detach").output.strip() == "UPID:x"


def test_adopt_sends_an_absolute_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/adopt"] = DatastoreView(name="main", path="/srv", uuid="u", status="online")
    done = invoke(root, "datastore", "adopt", "store", "--name", "main", "--takeover")
    assert "datastore main is online" in done.output
    assert api.asked[0][2] == DatastoreAdopt(name="main", path=str(Path("store").absolute()), takeover=True)
    api.answers["POST", "/datastores/adopt"] = ConflictError("it belongs to server x", hint="--takeover")
    assert invoke(root, "datastore", "adopt", "store", "--name", "main").exit_code == 3


def test_stats_by_group_show_what_is_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    row = UsageRow(
        name="host/a", snapshots=2, plain_bytes=1 << 30, stored_bytes=300, unique_bytes=100, shared_bytes=200
    )
    api.answers["GET", "/datastores/main/usage"] = [row]
    shown = invoke(root, "datastore", "stats", "main", "--by", "group").output
    assert "host/a" in shown
    assert "1.0 GiB" in shown
    assert json.loads(invoke(root, "datastore", "stats", "main", "--by", "group", "-o", "json").output)[0] == {
        "name": "host/a",
        "snapshots": 2,
        "plain_bytes": 1 << 30,
        "stored_bytes": 300,
        "unique_bytes": 100,
        "shared_bytes": 200,
    }
    assert invoke(root, "datastore", "stats", "main", "--by", "owner").exit_code == 2
