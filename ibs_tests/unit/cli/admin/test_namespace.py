"""`ironcore-backup namespace …` and `group …`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.datastore import GroupView
from ibs.wire.lifecycle import GroupMoved, GroupOwnerChanged, NamespaceRemoved, NamespaceView
from ibs_tests.support.fakeapi import install, invoke


def test_the_tree_is_shown_in_its_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    names = ["", "b", "a", "a/c", "a-b"]
    rows = [NamespaceView(namespace=name, groups=1, snapshots=2000) for name in names]
    api.answers["GET", "/datastores/main/namespaces"] = rows
    lines = invoke(root, "namespace", "list", "main").output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["(root)", "a", "c", "a-b", "b"]
    assert lines[3].startswith("    c")
    assert "2,000" in lines[1]


def test_create_and_delete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/namespaces"] = NamespaceView(namespace="a/b", groups=0, snapshots=0)
    api.answers["POST", "/datastores/main/namespaces/remove"] = NamespaceRemoved(removed=["a/b"], to_bin=["x", "y"])
    assert "namespace a/b is made" in invoke(root, "namespace", "create", "main", "a/b").output
    gone = invoke(root, "namespace", "delete", "main", "a/b", "--recursive").output
    assert "1 namespaces are gone, 2 snapshots are in the bin" in gone
    assert api.asked[1][2].recursive


def test_groups_and_their_owners(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    view = GroupView(namespace="a", group="host/x", owner="", snapshots=3, newest="2026-11-22T19:00:00Z")
    api.answers["GET", "/datastores/main/groups"] = [view]
    changed = GroupOwnerChanged(group="ns:a/host/x", owner="b@ibs", before="")
    api.answers["POST", "/datastores/main/groups/owner"] = changed
    assert "unknown" in invoke(root, "group", "list", "main", "--ns", "a").output
    done = invoke(root, "group", "chown", "main", "ns:a/host/x", "b@ibs").output
    assert "belongs to b@ibs now; it was without an owner" in done


def test_a_group_moves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/groups/move"] = GroupMoved(snapshots=["x", "y"])
    assert "2 snapshots were moved" in invoke(root, "group", "move", "main", "host/x", "a/b").output
    assert (api.asked[0][2].group, api.asked[0][2].namespace) == ("host/x", "a/b")
