"""An agent's folder: private, whole, and with one program at a time."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx
import msgspec
import pytest

from ibs.client.agent import identity
from ibs.client.agent.identity import AgentIdentity, AgentStatus, agent_folder, held, is_held, load_identity
from ibs.client.config import Server
from ibs.client.http import ApiClient
from ibs.errors import BusyError, ConflictError, FailedError, NotFoundError, UsageError
from ibs.wire.hosts import AgentJoin, AgentJoined

ME = AgentIdentity(name="web01", server="b:8007", fingerprint="aa", auth_id="agent-web01@ibs!agent", secret="s3cret")
PIN = ":".join(["ab"] * 32)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[AgentJoin]:
    """A server that lets everybody join; what it was asked."""
    seen: list[AgentJoin] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/v1/agent/join"
        seen.append(msgspec.json.decode(request.content, type=AgentJoin))
        joined = AgentJoined(name=seen[-1].name, auth_id=ME.auth_id, secret="s3cret", node="n")
        return httpx.Response(200, content=msgspec.json.encode(joined))

    def client(url: str, **options: str) -> ApiClient:
        return ApiClient(url, transport=httpx.MockTransport(answer), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(identity, "ApiClient", client)
    return seen


async def test_joining_keeps_a_private_file(tmp_path: Path, asked: list[AgentJoin]) -> None:
    folder = tmp_path / "agent"
    made = await identity.join(Server("b", 8007), PIN, "web01", "token", folder)
    assert (asked[0].name, asked[0].token) == ("web01", "token")
    assert load_identity(folder) == made
    assert (made.server, made.fingerprint, made.secret) == ("b:8007", PIN, "s3cret")
    assert stat.S_IMODE((folder / "agent.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_host_that_joined_spends_no_token(tmp_path: Path, asked: list[AgentJoin]) -> None:
    await identity.join(Server("b", 8007), PIN, "web01", "token", tmp_path)
    with pytest.raises(ConflictError, match="has joined already"):
        await identity.join(Server("b", 8007), PIN, "web01", "token", tmp_path)
    assert len(asked) == 1
    await identity.join(Server("b", 8007), PIN, "web02", "token", tmp_path, again=True)
    assert load_identity(tmp_path).name == "web02"


async def test_what_cannot_be_kept_or_is_no_name_spends_no_token(tmp_path: Path, asked: list[AgentJoin]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedError):
        await identity.join(Server("b", 8007), PIN, "web01", "token", tmp_path / "file" / "agent")
    with pytest.raises(UsageError):
        await identity.join(Server("b", 8007), PIN, "../x", "token", tmp_path)
    assert asked == []


def test_without_or_with_a_damaged_identity(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="has not joined a server"):
        load_identity(tmp_path)
    (tmp_path / "agent.json").write_text("{")
    with pytest.raises(FailedError, match="is damaged"):
        load_identity(tmp_path)


def test_one_program_at_a_time(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    with held(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(BusyError, match="an agent runs on"), held(tmp_path):
            pass
    assert not is_held(tmp_path)


def test_status_comes_back(tmp_path: Path) -> None:
    said = AgentStatus(name="web01", server="b", pid=1, version="1", state="connected", since="", running=["U"])
    assert identity.load_status(tmp_path) is None
    identity.save_status(tmp_path, said)
    assert identity.load_status(tmp_path) == said


def test_where_it_is(tmp_path: Path) -> None:
    assert agent_folder(tmp_path, {"IBS_AGENT_DIR": "/x"}) == tmp_path
    assert agent_folder(None, {"IBS_AGENT_DIR": "/x"}) == Path("/x")
    assert agent_folder(None, {}).name == "agent"


async def test_what_the_server_says_of_its_certificates_is_kept(tmp_path: Path, asked: list[AgentJoin]) -> None:
    me = await identity.join(Server("b"), PIN, "web01", "t0ken", tmp_path)
    both = f"{PIN},{':'.join(['cd'] * 32)}"
    identity.repin(tmp_path, me, both)
    assert load_identity(tmp_path) == msgspec.structs.replace(me, fingerprint=both)
    assert stat.S_IMODE((tmp_path / "agent.json").stat().st_mode) == 0o600
    identity.repin(tmp_path / "gone" / "away", me, PIN)  # told in the log; the agent goes on
    assert load_identity(tmp_path).fingerprint == both
