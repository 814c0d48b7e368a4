"""Client commands about one's own snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.client import root
from ibs.errors import NotAuthorised
from ibs.wire.common import TaskStarted
from ibs.wire.lifecycle import PolicyBody, SnapshotRef
from ibs_tests.support.fakeapi import FakeApi, install, invoke
from ibs_tests.unit.cli.admin.test_recyclebin import ENTRY
from ibs_tests.unit.cli.admin.test_snapshot import VIEW
from ibs_tests.unit.cli.test_policies import SOME, plan

NAME = VIEW.snapshot


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeApi:
    fake = install(monkeypatch, tmp_path)
    monkeypatch.setattr("ibs.cli.client.connection.connect", lambda _credentials: fake)
    return fake


def test_notes_protection_and_forgetting_name_the_namespace(api: FakeApi) -> None:
    api.answers["POST", "/datastores/main/snapshot"] = VIEW
    api.answers["POST", "/datastores/main/snapshot/forget"] = ENTRY
    for command, words in (
        (("notes", NAME, "before"), "has its notes"),
        (("protect", NAME), "is protected"),
        (("unprotect", NAME), "not protected any more"),
        (("forget", NAME), f"in the bin until {ENTRY.due}"),
    ):
        assert words in invoke(root, "snapshot", *command, "--ns", "a").output
    assert {asked[2].snapshot for asked in api.asked} == {f"ns:a/{NAME}"}


def test_what_the_role_does_not_allow_is_refused(api: FakeApi) -> None:
    refused = NotAuthorised("a@ibs!t", "Datastore.PowerUser", "/datastore/main")
    api.answers["POST", "/datastores/main/snapshot/forget"] = refused
    assert invoke(root, "snapshot", "forget", NAME).exit_code == 3


def test_the_bin(api: FakeApi) -> None:
    api.answers["GET", "/datastores/main/bin"] = [ENTRY]
    api.answers["POST", "/datastores/main/bin/undo"] = SnapshotRef(snapshot=NAME)
    assert ENTRY.due in invoke(root, "bin", "list").output
    assert f"snapshot {NAME} is back" in invoke(root, "bin", "undo", NAME).output
    assert api.asked[1][2].entry == NAME


def test_pruning_a_group(api: FakeApi) -> None:
    api.answers["POST", "/datastores/main/prune/simulate"] = plan(*SOME)
    api.answers["POST", "/datastores/main/prune"] = TaskStarted(upid="UPID:x")
    shown = invoke(root, "prune", "simulate", "host/a", "--ns", "b", "--keep-weekly", "3")
    assert "no rule keeps it" in shown.output, shown.output
    assert shown.exit_code == 0
    sent = api.asked[0][2]
    assert (sent.namespace, sent.group, sent.policy) == ("b", "host/a", PolicyBody(keep_weekly=3))
    invoke(root, "prune", "run", "host/a", "--override")
    assert api.asked[1][2].override
    assert invoke(root, "prune", "run", "a").exit_code == 2
