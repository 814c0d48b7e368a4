"""Hosts over the API: what administrators ask for, and what only an agent may say."""

from __future__ import annotations

from typing import Any

from ibs.wire.hosts import AgentEnd, AgentJoin, AgentPoll, HostInvite, HostUpdate
from ibs.wire.session import SessionOpen
from ibs_tests.support.control import AGENT, OWNER, UPID, FakeContext, Served


async def test_administration(ask: Any, context: FakeContext) -> None:
    assert len((await ask("GET", "/hosts")).json()) == 1
    assert (await ask("GET", "/hosts/web01")).json()["name"] == "web01"
    assert (await ask("POST", "/hosts", 201, json={"name": "web01", "tags": ["a"]})).json()["token"]
    assert context.asked[-1] == ("invite", OWNER, HostInvite(name="web01", tags=["a"]), context.endpoint.port)
    await ask("POST", "/hosts/web01", json={"project": "shop"})
    assert context.asked[-1] == ("update", OWNER, "web01", HostUpdate(project="shop"))
    await ask("DELETE", "/hosts/web01")
    assert context.asked[-1] == ("remove", OWNER, "web01")


async def test_joining_needs_no_identity_and_little_room(served: Served, context: FakeContext) -> None:
    async with served.http() as http:
        answer = await http.post("/agent/join", json={"name": "web01", "token": "t"})
        assert answer.is_success, answer.text
        assert context.asked[-1] == ("join", "127.0.0.1", AgentJoin(name="web01", token="t"))
        answer = await http.post("/agent/join", json={"name": "web01", "token": "t" * 9000})
        assert answer.status_code == 400


async def test_what_an_agent_says(served: Served, context: FakeContext) -> None:
    async with served.http(context.access.token(AGENT)) as http:
        answer = await http.post("/agent/poll", json={"instance": "i", "running": [UPID]})
        assert answer.json()["stop"] == [UPID]
        assert context.asked[-1] == ("poll", "127.0.0.1", AgentPoll(instance="i", running=[UPID]), False)
        body = {"store": "main", "group": "host/web01", "archives": ["etc.tree"]}
        assert (await http.post(f"/agent/tasks/{UPID}/sessions", json=body)).json()["session_id"]
        wanted = SessionOpen(store="main", group="host/web01", archives=["etc.tree"])
        assert context.asked[-1] == ("attach", context.sessions, UPID, wanted)
        lines = {"lines": [{"level": "info", "text": "hook"}]}
        assert (await http.post(f"/agent/tasks/{UPID}/log", json=lines)).is_success
        assert context.asked[-1][:2] == ("agent_log", UPID)
        assert (await http.post(f"/agent/tasks/{UPID}/end", json={"status": "OK"})).is_success
        assert context.asked[-1] == ("end", UPID, AgentEnd(status="OK"))


async def test_an_agent_has_no_other_rights(served: Served, context: FakeContext) -> None:
    async with served.http(context.access.token(AGENT)) as http:
        assert (await http.get("/hosts")).status_code == 403
        body = {"store": "main", "group": "host/web01", "archives": ["etc.tree"]}
        assert (await http.post("/datastores/main/sessions", json=body)).status_code == 403
