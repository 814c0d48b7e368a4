"""`host …`: what is sent, and what an operator reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.hosts import HostInvite, HostInvited, HostUpdate, HostView
from ibs_tests.support.fakeapi import FakeApi, install, invoke

INVITED = HostInvited(
    name="web01", token="t0ken", expires="2026-11-23T06:00:00Z", fingerprint="ab:cd", node="backup", port=8007
)
WEB = HostView(
    name="web01",
    state="silent",
    since="2026-11-23T05:00:00Z",
    last_contact="2026-11-23T05:00:00Z",
    version="0.1.0",
    tags=["prod", "web"],
    project="shop",
    auth_id="agent-web01@ibs!agent",
    joined="2026-11-22T05:00:00Z",
    running=["UPID:x"],
)
OWN = HostView(name="backup", state="online", built_in=True)
NEW = HostView(name="new", state="never joined", invited_until="2026-11-23T06:00:00Z")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeApi:
    return install(monkeypatch, tmp_path)


def test_invite_prints_the_command_for_the_host_without_the_token(api: FakeApi) -> None:
    api.answers["POST", "/hosts"] = INVITED
    options = ("--valid-for", "2h", "--tag", "web", "--tag", "prod", "--project", "shop")
    done = invoke(root, "host", "invite", "web01", *options)
    command = "ironcore-backup-client agent join backup:8007 --name web01 --fingerprint ab:cd"
    assert "Join token  t0ken" in done.output
    assert [line.strip() for line in done.output.splitlines()][-1] == command
    assert api.asked[0][2] == HostInvite(name="web01", valid_seconds=7200, tags=["web", "prod"], project="shop")
    done = invoke(root, "host", "invite", "web01", "--again", "--output", "json")
    assert json.loads(done.output) == {
        "name": "web01",
        "token": "t0ken",
        "expires": INVITED.expires,
        "command": command,
    }
    assert invoke(root, "host", "invite", "web01", "--valid-for", "soon").exit_code == 2


def test_the_address_is_the_one_that_was_used(api: FakeApi) -> None:
    api.answers["POST", "/hosts"] = INVITED
    api.host = "backup.example"
    assert "agent join backup.example:8007 " in invoke(root, "host", "invite", "web01").output


def test_list(api: FakeApi) -> None:
    api.answers["GET", "/hosts"] = [OWN, NEW, WEB]
    lines = invoke(root, "host", "list").output.splitlines()
    assert lines[0].split()[:2] == ["HOST", "STATE"]
    assert "this server" in lines[1]
    assert "never joined" in lines[2]
    assert "invited until 2026-11-23T06:00:00Z" in lines[2]
    assert all(word in lines[3] for word in ("silent", "2026-11-23T05:00:00Z", "0.1.0", "shop", "prod,web"))
    assert len(json.loads(invoke(root, "host", "list", "--output", "json").output)) == 3


def test_show(api: FakeApi) -> None:
    api.answers["GET", "/hosts/web01"] = WEB
    output = invoke(root, "host", "show", "web01").output
    assert "Tasks         UPID:x" in output
    assert "Agent         0.1.0 agent-web01@ibs!agent" in output
    assert invoke(root, "host", "show", "nobody").exit_code == 5


def test_update_and_remove(api: FakeApi) -> None:
    api.answers["POST", "/hosts/web01"] = WEB
    api.answers["DELETE", "/hosts/web01"] = None
    invoke(root, "host", "update", "web01", "--tag", "a", "--project", "")
    invoke(root, "host", "update", "web01", "--no-tags")
    assert [sent for _, _, sent in api.asked] == [HostUpdate(tags=["a"], project=""), HostUpdate(tags=[])]
    assert "host web01 removed; its backups stay" in invoke(root, "host", "remove", "web01").output
