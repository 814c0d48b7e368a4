"""The whole server in this process: ready, asked over TLS, stopped in order, cut off, started twice."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from ibs import app, log
from ibs.app import Running, serve
from ibs.errors import BusyError, FailedError, IbsError, UnavailableError
from ibs.runtime.background import leaf
from ibs.runtime.settings import Settings
from ibs.security.pinning import pinned_context


def settings(folder: Path, **changes: Any) -> Settings:
    values = {"state_dir": folder / "state", "log_dir": None, "listen_host": "127.0.0.1", "listen_port": 0}
    return Settings(**(values | {"node": "node1", "fault_injection": True} | changes))


@asynccontextmanager
async def running(wanted: Settings) -> AsyncIterator[Running]:
    async with trio.open_nursery() as nursery:
        server: Running = await nursery.start(partial(serve, wanted))
        yield server
        server.stop("test")


def client(server: Running, state: Path) -> httpx.AsyncClient:
    token = (state / "root.token").read_text().strip()
    return httpx.AsyncClient(
        base_url=f"https://{server.address}/api/v1",
        headers={"Authorization": f"Bearer {token}"},
        verify=pinned_context(server.fingerprint),
        trust_env=False,
    )


async def test_ready_means_files_are_there_and_every_role_runs(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    async with running(wanted) as server:
        facts = json.loads((wanted.state_dir / "server.json").read_text())
        assert facts == {
            "address": server.address,
            "fingerprint": server.fingerprint,
            "pid": os.getpid(),
            "version": app.VERSION,
        }
        token = wanted.state_dir / "root.token"
        assert token.stat().st_mode & 0o777 == 0o600
        assert token.read_text().startswith("root@ibs!local:")
        async with client(server, wanted.state_dir) as api:
            status = (await api.get("/status")).json()
        assert {service["state"] for service in status["services"]} == {"active (running)"}
        assert status["listen"] == server.address
        server.stop("test")
        assert not (wanted.state_dir / "server.json").exists()
    assert not (wanted.state_dir / "server.json").exists()


async def test_a_stop_closes_datastores_cleanly_and_tells_the_inbox(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    (tmp_path / "store").mkdir()
    async with running(wanted) as server, client(server, wanted.state_dir) as api:
        made = await api.post("/datastores", json={"name": "main", "path": str(tmp_path / "store")})
        assert made.status_code == 201
        opened = await api.post(
            "/datastores/main/sessions", json={"store": "main", "group": "host/x", "archives": ["a.tree"]}
        )
        assert opened.status_code == 200
    async with running(wanted) as again, client(again, wanted.state_dir) as api:
        assert (again.fingerprint, (await api.get("/datastores")).json()[0]["status"]) == (server.fingerprint, "online")
        [task] = (await api.get("/tasks")).json()
        assert (task["state"], task["message"]) == ("FAILED", "the server stops")
        inbox = (await api.get("/notifications/inbox")).json()
        assert any("the server stops (test)" in event["text"] for event in inbox)
        assert any("backup of main:host/x: FAILED" in event["text"] for event in inbox)


async def test_a_stopping_server_refuses_new_sessions(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    async with running(settings(tmp_path)) as server:
        await server.context.datastores.create("main", str(tmp_path / "store"))
        server.stop("test")
        with pytest.raises(UnavailableError, match="stopping"):
            await server.context.sessions.open("main", "root@ibs", None)  # type: ignore[arg-type]


async def test_an_answer_does_not_wait_for_datastores(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    (tmp_path / "store").mkdir()
    async with running(wanted) as server:
        await server.context.datastores.create("main", str(tmp_path / "store"))
    (tmp_path / "store").rename(tmp_path / "away")
    async with running(wanted) as server:
        [view] = await server.context.datastores.list()
        assert view.status == "offline"


async def test_one_server_a_state_folder(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    async with running(wanted) as server:
        with pytest.raises(BusyError, match="in use by another server"):
            await serve(wanted)
        async with client(server, wanted.state_dir) as api:
            assert (await api.get("/ping")).status_code == 200
        assert (wanted.state_dir / "server.json").exists()


async def test_a_port_in_use_is_one_clear_error(tmp_path: Path) -> None:
    async with running(settings(tmp_path / "1")) as server:
        port = int(server.address.rpartition(":")[2])
        wanted = settings(tmp_path / "2", listen_port=port)
        with pytest.raises(ExceptionGroup) as caught:
            await serve(wanted)
        cause = leaf(caught.value, IbsError)
        assert isinstance(cause, UnavailableError)
        assert f"cannot listen on 127.0.0.1:{port}" in cause.message
        assert not (tmp_path / "2" / "state" / "server.json").exists()


async def test_cutting_it_off_still_closes_everything(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, wanted))
        nursery.cancel_scope.cancel()
    assert not (wanted.state_dir / "server.json").exists()
    async with running(wanted):
        pass


async def test_a_wildcard_address_is_told_as_one_that_can_be_called(tmp_path: Path) -> None:
    wanted = settings(tmp_path, listen_host="0.0.0.0")
    async with running(wanted) as server:
        facts = json.loads((wanted.state_dir / "server.json").read_text())
        assert server.address.startswith("0.0.0.0:")
        assert facts["address"].startswith("127.0.0.1:")


def test_the_program_stops_on_a_signal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready: list[str] = []

    def note(_self: object, status: str) -> bool:
        ready.append(status)
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    monkeypatch.setattr("ibs.runtime.sdnotify.Notifier.ready", note)
    assert app.run(settings(tmp_path, log_dir=tmp_path / "log")) == 0
    assert ready[0].startswith("listening on 127.0.0.1:")
    out = capfd.readouterr().out
    assert "listening on 127.0.0.1:" in out
    assert "certificate fingerprint " in out
    events = [json.loads(line)["event"] for line in (tmp_path / "log" / "api.log").read_text().splitlines()]
    assert "the server stops (SIGTERM)" in events
    assert (tmp_path / "log" / "notify.log").exists()


def test_the_second_signal_ends_the_process_and_loses_no_log_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    written: list[list[str]] = []
    logs = log.configure(tmp_path)

    def ended(_status: int) -> None:
        written.append([json.loads(line)["event"] for line in (tmp_path / "api.log").read_text().splitlines()])

    monkeypatch.setattr(os, "_exit", ended)
    for number in range(2000):
        log.get_logger("api").info(f"line {number}")
    app._end_at_once(logs, "SIGINT")
    logs.close()
    assert written == [[*(f"line {number}" for number in range(2000)), "stopping at once"]]
    assert "SIGINT again: stopping at once" in capfd.readouterr().err


async def test_the_status_line_of_systemd_tells_what_does_not_run(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as server:
        assert app._status_line(server) == f"listening on {server.address}; 7 of 7 services, 0 tasks"
        server.context.inject_fault("gc")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert "6 of 7 services, 0 tasks; gc is activating (auto-restart)" in app._status_line(server)


def test_errors_of_the_start_come_out_plain(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FailedError, match="cannot write logs"):
        app.run(settings(tmp_path, log_dir=tmp_path / "file" / "log"))
    with pytest.raises(FailedError, match="cannot use the state folder"):
        app.run(settings(tmp_path, state_dir=tmp_path / "file" / "state", log_dir=tmp_path / "log"))
