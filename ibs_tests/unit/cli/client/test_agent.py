"""`agent …` on the host: where the token comes from, what is told before anything runs, and the status."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from ibs.cli.client import agent, root
from ibs.client.agent.identity import AgentIdentity, AgentStatus, held, save_status
from ibs.client.config import Server
from ibs.security.private import write_private
from ibs_tests.support.fakeapi import invoke

PIN = ":".join(["ab"] * 32)
ME = AgentIdentity(
    name="web01", server="b:8007", fingerprint=PIN, auth_id="agent-web01@ibs!agent", secret="s3cret-of-web01"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("IBS_JOIN_TOKEN", "IBS_JOIN_TOKEN_FILE", "IBS_FINGERPRINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("IBS_AGENT_DIR", str(tmp_path / "agent"))
    monkeypatch.setenv("IBS_AGENT_CONFIG", str(tmp_path / "agent.toml"))
    return tmp_path / "agent"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Joining, without a server."""
    seen: list[tuple[object, ...]] = []

    async def join(*arguments: object, again: bool) -> AgentIdentity:
        seen.append((*arguments, again))
        return ME

    monkeypatch.setattr(agent, "join_server", join)
    return seen


JOIN = ("agent", "join", "b", "--name", "web01")


def test_where_the_token_comes_from(
    folder: Path, asked: list[tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = invoke(root, *JOIN, "--fingerprint", PIN)
    assert (refused.exit_code, "no join token was given" in refused.output) == (3, True)
    monkeypatch.setenv("IBS_JOIN_TOKEN", "from-env")
    done = invoke(root, *JOIN, "--fingerprint", PIN)
    assert done.exit_code == 0, done.output
    assert "host web01 has joined b:8007 as agent-web01@ibs!agent" in done.output
    assert "s3cret" not in done.output
    assert asked == [(Server("b", 8007), PIN, "web01", "from-env", folder, False)]
    (tmp_path / "token").write_text("from-file\n")
    invoke(root, *JOIN, "--fingerprint", PIN, "--again", "--token-file", str(tmp_path / "token"))
    assert asked[1][3:] == ("from-file", folder, True)
    assert invoke(root, *JOIN, "--fingerprint", PIN, "--token-file", str(tmp_path / "none")).exit_code == 2


def test_the_certificate_is_pinned_or_nothing_is_sent(
    folder: Path, asked: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IBS_JOIN_TOKEN", "t")
    refused = invoke(root, *JOIN)
    assert (refused.exit_code, "fingerprint of b:8007 is not known" in refused.output) == (2, True)
    assert asked == []


def test_run_tells_what_is_wrong_before_it_connects(folder: Path) -> None:
    assert invoke(root, "agent", "run").exit_code == 5  # not joined
    write_identity(folder)
    (folder.parent / "agent.toml").write_text("nonsense = 1")
    (folder.parent / "agent.toml").chmod(0o600)
    refused = invoke(root, "agent", "run")
    assert (refused.exit_code, "known keys: allow_all, paths" in refused.output) == (2, True)
    (folder.parent / "agent.toml").unlink()
    with held(folder):
        busy = invoke(root, "agent", "run")
    assert (busy.exit_code, "an agent runs on" in busy.output) == (6, True)
    assert "warning: nothing may be backed up yet" in busy.output


def test_status(folder: Path) -> None:
    write_identity(folder)
    said = AgentStatus(
        name="web01", server="b:8007", pid=4, version="0.1.0", state="connected", since="2026-11-23T05:00:00Z"
    )
    save_status(folder, said)
    idle = invoke(root, "agent", "status")
    assert "not running" in idle.output
    assert "nothing, see" in idle.output
    (folder.parent / "agent.toml").write_text('paths = ["/etc"]')
    (folder.parent / "agent.toml").chmod(0o600)
    with held(folder):
        shown = invoke(root, "agent", "status").output
        facts = json.loads(invoke(root, "agent", "status", "--output", "json").output)
    assert "connected" in shown
    assert (facts["state"], facts["paths"], facts["pid"]) == ("connected", ["/etc"], 4)
    assert "s3cret" not in shown + json.dumps(facts)


def write_identity(folder: Path) -> None:
    write_private(folder / "agent.json", msgspec.json.encode(ME))
