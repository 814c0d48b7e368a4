"""`ironcore-backup-client restore`: options become the plan; an outcome with warnings ends with 4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ibs.cli.client import restore as module
from ibs.cli.client import root
from ibs.client.restore.plan import RestoreOutcome, RestorePlan, RestoreProgress
from ibs.errors import DestinationNotWritable
from ibs.restore.tree.folders import Overwrite
from ibs_tests.support.fakeapi import install, invoke


def outcome(**changes: Any) -> RestoreOutcome:
    facts: dict[str, Any] = {"snapshot": "host/a/2026-11-22T19:00:00Z", "archive": "etc.tree", "target": "/tmp/[x]"}
    facts |= {"status": "OK", "warnings": 0, "signed_by": "server", "sequence": 1, "manifest_digest": "00"}
    facts |= {"upid": "U", "seconds": 1.0, "plain_bytes": 1 << 20, "stages": {}, "report": {}}
    return RestoreOutcome(**(facts | changes))


class Restores:
    def __init__(self, result: RestoreOutcome | Exception) -> None:
        self.result = result
        self.plans: list[RestorePlan] = []

    async def __call__(self, _transport: Any, plan: RestorePlan, *, progress: Any, **_rest: Any) -> RestoreOutcome:
        self.plans.append(plan)
        progress(RestoreProgress(done_bytes=1, total_bytes=2, entries=3, stages={}))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def restores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Restores:
    api = install(monkeypatch, tmp_path)
    monkeypatch.setattr("ibs.cli.client.connection.connect", lambda _credentials: api)
    made = Restores(outcome())
    monkeypatch.setattr(module, "run_restore", made)
    return made


def test_options_become_the_plan(restores: Restores) -> None:
    options = ("--pattern", "nginx/**", "--pattern", "*.conf", "--overwrite", "if-newer", "--ns", "a")
    done = invoke(root, "restore", "host/a", "etc.tree", "/tmp/t", *options)
    assert done.exit_code == 0, done.output
    plan = restores.plans[0]
    assert (plan.store, plan.snapshot, plan.archive, plan.target) == ("main", "ns:a/host/a", "etc.tree", "/tmp/t")
    assert (plan.patterns, plan.overwrite) == (("nginx/**", "*.conf"), Overwrite.IF_NEWER)
    assert "-> /tmp/[x]: OK" in done.output
    assert "signed by server" in done.output


def test_nothing_is_overwritten_unless_asked(restores: Restores) -> None:
    assert invoke(root, "restore", "host/a", "etc.tree", "/tmp/t").exit_code == 0
    assert restores.plans[0].overwrite is Overwrite.NEVER
    assert invoke(root, "restore", "host/a", "etc.tree", "/tmp/t", "--overwrite", "sometimes").exit_code == 2


def test_every_line_says_once_how_serious_it_is(restores: Restores) -> None:
    lines = (
        "lost: chunk not found: 1 entry (a)",
        "warning: owner could not be set: 1 entry (b)",
        "note: was there: 1 (c)",
    )
    restores.result = outcome(status="WARNING", warnings=2, lines=lines)
    done = invoke(root, "restore", "host/a", "etc.tree", "/tmp/t", "-o", "json")
    assert done.stderr.splitlines() == [
        "warning: lost: chunk not found: 1 entry (a)",
        "warning: owner could not be set: 1 entry (b)",
        "note: was there: 1 (c)",
    ]


def test_warnings_and_failures(restores: Restores) -> None:
    restores.result = outcome(status="WARNING", warnings=1, lines=("x: owner not restored",))
    done = invoke(root, "restore", "host/a", "etc.tree", "/tmp/t", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["status"]) == (4, "WARNING")
    assert done.stderr == "warning: x: owner not restored\n"
    restores.result = DestinationNotWritable("/tmp/t", "no space left")
    failed = invoke(root, "restore", "host/a", "etc.tree", "/tmp/t")
    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: destination not writable: /tmp/t: no space left\nhint: ")


@pytest.mark.parametrize(("snapshot", "archive"), [("a", "etc.tree"), ("host/a", "etc"), ("host/a/yesterday", "x.img")])
def test_a_name_that_is_none_is_refused(restores: Restores, snapshot: str, archive: str) -> None:
    assert invoke(root, "restore", snapshot, archive, "/tmp/t").exit_code == 2
    assert restores.plans == []
