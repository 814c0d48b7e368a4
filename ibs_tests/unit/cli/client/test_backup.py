"""`ironcore-backup-client backup`: options become the plan; warnings are lines and exit status 4."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ibs.cli.client import backup as module
from ibs.cli.client import root
from ibs.client.backup.figures import Progress
from ibs.client.backup.plan import BackupOutcome, BackupPlan, Changes
from ibs.core.names import SnapshotName
from ibs.errors import BusyError
from ibs.sources.changes import MapForm
from ibs.wire.system import WhoAmI
from ibs_tests.support.fakeapi import FakeApi, install, invoke

DONE = BackupOutcome(
    snapshot="host/me/2026-11-22T19:00:00Z",
    status="OK",
    warnings=0,
    upid="UPID:x",
    files=1200,
    files_reused=1000,
    bytes_seen=1 << 30,
    bytes_read=1 << 20,
    bytes_sent=1 << 10,
    chunks_sent=2,
    seconds=2.0,
)


class Backups:
    """Stands where the pipeline would be, and remembers its plans."""

    def __init__(self, outcome: BackupOutcome | Exception) -> None:
        self.outcome = outcome
        self.plans: list[BackupPlan] = []
        self.dry = False

    async def run_backup(self, _transport: Any, plan: BackupPlan, *, progress: Any, **_rest: Any) -> BackupOutcome:
        self.plans.append(plan)
        facts = {"archive": "etc.tree", "path": "[x] " + "p" * 80}
        progress(Progress(**{name: facts.get(name, 0) for name in Progress.__dataclass_fields__}))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def dry_run(self, plan: BackupPlan, **rest: Any) -> BackupOutcome:
        self.dry = True
        return await self.run_backup(None, plan, **rest)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeApi:
    fake = install(monkeypatch, tmp_path)
    monkeypatch.setattr("ibs.cli.client.connection.connect", lambda _credentials: fake)
    fake.answers["GET", "/whoami"] = WhoAmI(auth_id="a@ibs!t")
    return fake


def install_backups(monkeypatch: pytest.MonkeyPatch, outcome: BackupOutcome | Exception) -> Backups:
    backups = Backups(outcome)
    monkeypatch.setattr(module, "run_backup", backups.run_backup)
    monkeypatch.setattr(module, "dry_run", backups.dry_run)
    return backups


def test_options_become_the_plan(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    backups = install_backups(monkeypatch, DONE)
    options = ("--backup-id", "me", "--ns", "a/b", "--exclude", "*.tmp", "--exclude", "x", "--level", "9", "--reread")
    done = invoke(root, "backup", "etc.tree:/etc", "d.img:/dev/sda", *options, "--all-file-systems")
    assert done.exit_code == 0, done.output
    plan = backups.plans[0]
    assert (plan.store, plan.group, plan.owner, plan.namespace) == ("main", "host/me", "", "a/b")
    assert plan.sources == (("etc.tree", "/etc"), ("d.img", "/dev/sda"))
    assert plan.excludes == ("*.tmp", "x")
    assert (plan.level, plan.reread, plan.all_file_systems) == (9, True, True)
    for words in ("host/me/2026-11-22T19:00:00Z: OK", "1,000 unchanged", "UPID:x", "512.0 MiB/s"):
        assert words in done.output


def test_maps_of_changes_become_the_plan(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    backups = install_backups(monkeypatch, replace(DONE, remarks=("d.img: the map of changes is not used: why",)))
    options = ("--backup-id", "me", "--changed", "d.img=/run/m=1.json", "--changed-since", "2026-11-22T19:00:00Z")
    more = (
        "--changed-format",
        "qemu-bitmap",
        "--verify-unchanged",
        "2.5 %",
        "--reread-every",
        "0",
        "--discard-if-full",
    )
    done = invoke(root, "backup", "d.img:/dev/sda", *options, *more)
    assert done.exit_code == 0, done.output
    plan = backups.plans[0]
    assert (plan.reread_every, plan.discard_if_full) == (0, True)
    assert plan.changes == Changes(
        maps=(("d.img", "/run/m=1.json"),),
        snapshot=SnapshotName.parse("host/me/2026-11-22T19:00:00Z"),
        form=MapForm.QEMU_BITMAP,
        percent=2.5,
    )
    assert "not used: why" in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--changed", "d.img=/m"), "says nothing without the snapshot"),
        (("--changed-since", "2026-11-22T19:00:00Z"), "no map of changes is given"),
        (("--verify-unchanged", "5%"), "no map of changes is given"),
        (("--changed", "d.img", "--changed-since", "2026-11-22T19:00:00Z"), "is not valid"),
        (("--changed", "e.img=/m", "--changed-since", "2026-11-22T19:00:00Z"), "no source"),
        (("--changed", "d.img=/m", "--changed-since", "host/me"), "has no time"),
        (("--changed", "d.img=/m", "--changed-since", "host/you/2026-11-22T19:00:00Z"), "not of the group"),
        (("--changed", "d.img=/m", "--changed-since", "2026-11-22T19:00:00Z", "--verify-unchanged", "many"), "share"),
        (("--changed", "d.img=/m", "--changed-since", "2026-11-22T19:00:00Z", "--verify-unchanged", "nan"), "share"),
        (("--changed", "d.img=/m", "--changed-since", "2026-11-22T19:00:00Z", "--verify-unchanged", "101%"), "share"),
    ],
)
def test_a_map_that_says_too_little_is_refused(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: str
) -> None:
    backups = install_backups(monkeypatch, DONE)
    done = invoke(root, "backup", "d.img:/dev/sda", "--backup-id", "me", *options)
    assert done.exit_code == 2, done.output
    assert words in done.stderr.replace("\n", " ")
    assert "hint: " in done.stderr
    assert backups.plans == []


def test_warnings_are_lines_and_status_4(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = BackupOutcome(snapshot="s", status="WARNING", warnings=3, lines=("a: changed while read", "b: gone"))
    install_backups(monkeypatch, odd)
    done = invoke(root, "backup", "etc.tree:/etc")
    assert done.exit_code == 4
    assert "warning: a: changed while read\nwarning: b: gone\nwarning: and 1 more" in done.stderr
    shown = invoke(root, "backup", "etc.tree:/etc", "-o", "json")
    assert (shown.exit_code, json.loads(shown.stdout)["warnings"]) == (4, 3)


def test_a_dry_run_sends_nothing(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    backups = install_backups(monkeypatch, BackupOutcome(snapshot="", status="OK", warnings=0))
    done = invoke(root, "backup", "etc.tree:/etc", "--dry-run")
    assert (done.exit_code, backups.dry) == (0, True)
    assert "dry run: OK" in done.output
    assert [asked[:2] for asked in api.asked] == [("GET", "/whoami")]


@pytest.mark.parametrize("source", ["/etc", "etc.zip:/etc", "etc.tree:"])
def test_a_source_that_is_none_is_refused(api: FakeApi, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    backups = install_backups(monkeypatch, DONE)
    done = invoke(root, "backup", source)
    assert done.exit_code == 2
    assert "hint: " in done.stderr
    assert backups.plans == []


def test_a_failure_keeps_its_status(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    install_backups(monkeypatch, BusyError("another backup of the group runs"))
    done = invoke(root, "backup", "etc.tree:/etc", "-o", "json")
    assert done.exit_code == 6
    assert json.loads(done.stderr)["code"] == "busy"
