"""`ironcore-backup prune …`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.common import TaskStarted
from ibs.wire.lifecycle import PolicyBody
from ibs_tests.support.fakeapi import install, invoke
from ibs_tests.unit.cli.test_policies import SOME, plan


def test_simulate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/prune/simulate"] = plan(*SOME)
    done = invoke(root, "prune", "simulate", "main", "--ns", "a", "--group", "host/a", "--keep-last", "2", "--calendar")
    assert done.exit_code == 0
    assert "2026-11  ....................x%" in done.output
    sent = api.asked[0][2]
    assert (sent.namespace, sent.group, sent.count_bytes) == ("a", "host/a", True)
    assert sent.policy == PolicyBody(keep_last=2)
    api.answers["POST", "/datastores/main/prune/simulate"] = plan(*SOME, stopped="more than half")
    assert invoke(root, "prune", "simulate", "main", "--no-bytes").exit_code == 4
    assert api.asked[1][2].policy is None
    assert not api.asked[1][2].count_bytes


def test_run_starts_a_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/prune"] = TaskStarted(upid="UPID:x")
    done = invoke(root, "prune", "run", "main", "--override", "--detach")
    assert (done.exit_code, "UPID:x" in done.output) == (0, True)
    assert api.asked[0][2].override
