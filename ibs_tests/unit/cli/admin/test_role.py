"""`role`, `usergroup`, `access explain`: requests as typed, groups with or without their mark, reasons in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.access import (
    Explained,
    ExplainedRight,
    ExplainedRule,
    RoleSet,
    RoleView,
    UserGroupSet,
    UserGroupView,
)
from ibs_tests.support.fakeapi import install, invoke


def test_roles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    view = RoleView(name="Checker", privileges=["Datastore.Verify"])
    api.answers["POST", "/access/roles"] = view
    api.answers["POST", "/access/roles/Checker"] = view
    api.answers["GET", "/access/roles"] = [view]
    api.answers["DELETE", "/access/roles/Checker"] = None
    assert "Checker allows Datastore.Verify" in invoke(root, "role", "create", "Checker", "Datastore.Verify").output
    wanted = RoleSet(name="Checker", privileges=["Datastore.Verify"])
    assert api.asked[-1][2] == wanted
    invoke(root, "role", "update", "Checker", "Datastore.Verify")
    assert api.asked[-1][2] == wanted
    assert "Datastore.Verify" in invoke(root, "role", "list").output
    assert "removed" in invoke(root, "role", "remove", "Checker").output


def test_groups_of_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    view = UserGroupView(name="ops", members=["a@ibs", "b@ibs"], comment="c")
    api.answers["POST", "/access/groups"] = view
    api.answers["POST", "/access/groups/ops"] = view
    api.answers["GET", "/access/groups"] = [view]
    api.answers["DELETE", "/access/groups/ops"] = None
    assert "acl grant PATH ROLE @ops" in invoke(root, "usergroup", "create", "@ops", "a@ibs", "b@ibs").output
    assert api.asked[-1][2] == UserGroupSet(name="ops", members=["a@ibs", "b@ibs"])
    invoke(root, "usergroup", "update", "@ops", "--add", "z@ibs", "--remove", "a@ibs")
    assert api.asked[-1][2] == UserGroupSet(name="ops", members=["b@ibs", "z@ibs"], comment="c")
    assert "@ops" in invoke(root, "usergroup", "list").output
    assert "removed" in invoke(root, "usergroup", "remove", "@ops").output


def test_explain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    rule = ExplainedRule(
        of="user", path="/", role="Audit", auth_id="@ops", propagate=True, inherited=True, fate="decides"
    )
    right = ExplainedRight(
        privilege="Datastore.Read",
        allowed=False,
        reason="it has Audit on /",
        role_wanted="Datastore.Reader",
        grant_to=["a@ibs"],
    )
    found = Explained(auth_id="a@ibs", path="/datastore/m", rules=[rule], rights=[right], groups=["@ops"])
    api.answers["GET", "/access/explain"] = found
    said = invoke(root, "access", "explain", "a@ibs", "/datastore/m", "Datastore.Read").output
    assert "its user is in @ops" in said
    assert "it has Audit on /" in said
    assert "acl grant /datastore/m Datastore.Reader a@ibs" in said
    assert api.asked[-1][2] == {"auth_id": "a@ibs", "path": "/datastore/m", "privilege": "Datastore.Read"}
    api.answers["GET", "/access/explain"] = Explained(
        auth_id="a@ibs", path="/", rules=[], rights=[right], kept_out="user a@ibs is disabled"
    )
    said = invoke(root, "access", "explain", "a@ibs", "/").output
    assert "kept out altogether: user a@ibs is disabled" in said
    assert "no rule for a@ibs bears on /" in said
