"""What a role's mirror is told, and when its coming restarts the role."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ibs.core import limits
from ibs.core.events import Event, EventSource, Severity
from ibs.log import get_logger
from ibs.runtime.bus import Bus
from ibs.runtime.clock import LoopClock
from ibs.runtime.supervisor import ServiceState, Supervisor, by_role
from ibs.services.context import service_view
from ibs.services.mirror import SOCKET, Mirrors
from ibs_tests.unit.runtime.test_supervisor import Probe


class Server:
    """A supervisor with two roles, and their mirrors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus: Bus[Event] = Bus()
        self.clock = LoopClock()
        self.lives = 0
        self.supervisor = Supervisor(self.clock, observe=self._observe)
        for role in ("gc", "sync"):
            self.supervisor.add(self._build, role, duty="test")
        self.mirrors = Mirrors(self.supervisor, self.bus, lambda role: service_view(self.state(role)))

    def _build(self, seat: Any) -> Probe:
        self.lives += 1
        return Probe(seat, self.lives)

    def _observe(self, state: ServiceState) -> None:
        fields = {"role": state.role}
        now = self.clock.now()
        self.bus.publish(Event(now, EventSource.SYSTEM, Severity.INFO, "service.state", "changed", fields))

    def state(self, role: str) -> ServiceState:
        return by_role(self.supervisor.states())[role]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: self.supervisor.run(task_status=task_status))
            nursery.start_soon(self.mirrors.run, self.folder)
            while not (self.folder / SOCKET).exists():
                await trio.lowlevel.checkpoint()
            yield
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def mirror(self, role: str) -> AsyncIterator[tuple[trio.SocketStream, Any]]:
        """A connected mirror, and what gives its next message."""
        with trio.fail_after(20):
            stream = await trio.open_unix_socket(str(self.folder / SOCKET))
            await stream.send_all(json.dumps({"role": role}).encode() + b"\n")
            held = bytearray()

            async def following() -> dict[str, Any]:
                while b"\n" not in held:
                    piece = await read_rest(stream)
                    if not piece:
                        return {}
                    held.extend(piece)
                line, _, rest = bytes(held).partition(b"\n")
                held[:] = rest
                return dict(json.loads(line))

            async with stream:
                yield stream, following


async def until_restarts(server: Server, role: str, count: int) -> None:
    with trio.fail_after(20):
        while server.state(role).restarts < count or str(server.state(role).state) != "active (running)":
            await trio.sleep(0.001)


async def test_state_changes_and_lines_of_its_role_only(tmp_path: Path) -> None:
    server = Server(tmp_path)
    async with server.running():
        get_logger("gc").error("from before")
        async with server.mirror("gc") as (_, following):
            assert (await following())["line"]["event"] == "from before"
            first = (await following())["state"]
            assert (first["unit"], first["state"], first["restarts"]) == (
                "ironcore-backup-gc",
                "active (running)",
                0,
            )
            get_logger("sync").error("of another role")
            get_logger("gc").error("of this role", chunks=3)
            line = (await following())["line"]
            assert (line["event"], line["role"], line["chunks"]) == ("of this role", "gc", 3)
            server.supervisor.inject_fault("gc", "test")
            seen = [await following() for _ in range(2)]
            assert [one["line"]["event"] for one in seen if "line" in one] == ["service failed"]
            assert [one["state"]["state"] for one in seen if "state" in one] == ["activating (auto-restart)"]
        async with server.mirror("gc") as (_, following):
            assert "state" in await following()  # what the first one was told is not told again


async def test_the_end_of_the_server_is_told_after_the_last_lines(tmp_path: Path) -> None:
    server = Server(tmp_path)
    end, ended = trio.Event(), trio.Event()

    async def serve() -> None:
        async with server.running():
            await end.wait()
            get_logger("gc").error("the last line")
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        while not (tmp_path / SOCKET).exists():
            await trio.lowlevel.checkpoint()
        async with server.mirror("gc") as (_, following):
            assert "state" in await following()
            end.set()
            told = [await following()]
            while "bye" not in told[-1]:
                told.append(await following())
            assert "the last line" in [one["line"]["event"] for one in told if "line" in one]
            assert told[-1] == {"bye": "the server stops"}
            assert await following() == {}
        await ended.wait()
    assert not (tmp_path / SOCKET).exists()


async def test_stopping_and_starting_the_unit_restarts_the_role_but_a_lost_mirror_does_not(tmp_path: Path) -> None:
    server = Server(tmp_path)
    async with server.running():
        async with server.mirror("gc") as (stream, following):
            assert "state" in await following()
        async with server.mirror("gc") as (stream, following):  # killed and started again: nothing was meant by it
            assert (await following())["state"]["restarts"] == 0
            await stream.send_all(b'{"leaving": true}\n')
            await stream.send_eof()
            while await following():
                pass
        assert server.state("gc").restarts == 0  # stopping alone ends nothing
        async with server.mirror("gc"):
            await until_restarts(server, "gc", 1)
        async with server.mirror("gc") as (_, following):  # once
            assert (await following())["state"]["restarts"] == 1
        assert server.state("sync").restarts == 0


async def test_a_role_that_was_given_up_comes_back_with_its_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RESTARTS_BEFORE_FAILED", 0)
    server = Server(tmp_path)
    async with server.running():
        server.supervisor.inject_fault("gc")
        with trio.fail_after(20):
            while str(server.state("gc").state) != "failed":
                await trio.sleep(0.001)
        async with server.mirror("gc"):
            await until_restarts(server, "gc", 1)


async def test_strangers_and_nonsense_are_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path)
    async with server.running():
        async with server.mirror("nobody") as (_, following):
            assert await following() == {"bye": "there is no service 'nobody'"}
            assert await following() == {}
        for nonsense in (b"hello\n", b'{"role": 1}\n', b"\n", b"x" * 5000):
            async with await trio.open_unix_socket(str(tmp_path / SOCKET)) as stream:
                await stream.send_all(nonsense)
                with trio.fail_after(20):
                    assert await read_rest(stream) == b""
        monkeypatch.setattr(limits, "MIRRORS_MAX", 0)
        async with server.mirror("gc") as (_, following):
            assert await following() == {}
        assert (tmp_path / SOCKET).stat().st_mode & 0o777 == 0o600


async def read_rest(stream: trio.SocketStream) -> bytes:
    try:
        return await stream.receive_some()
    except trio.BrokenResourceError:
        return b""


async def test_a_slow_mirror_holds_nothing_up_and_learns_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MIRROR_LINES_WAITING", 3)
    server = Server(tmp_path)
    async with server.running(), server.mirror("gc") as (_, following):
        assert "state" in await following()
        for number in range(5000):
            get_logger("gc").error(f"{number} " + "x" * 1000)
        seen = [await following()]
        await trio.testing.wait_all_tasks_blocked()
        get_logger("gc").error("the end")
        while seen[-1].get("line", {}).get("event") != "the end":
            seen.append(await following())
        missed = sum(one.get("lost", 0) for one in seen)
        assert missed + sum("line" in one for one in seen) == 5001
        assert missed > 0


async def test_a_long_path_and_the_socket_of_a_killed_server_are_no_trouble(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    server = Server(folder)
    old = os.open(folder, os.O_PATH)
    with trio.socket.socket(trio.socket.AF_UNIX) as dead:
        await dead.bind(f"/proc/self/fd/{old}/{SOCKET}")
    os.close(old)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(server.mirrors.run, folder))
        await trio.testing.wait_all_tasks_blocked()
        descriptor = os.open(folder, os.O_PATH)
        async with await trio.open_unix_socket(f"/proc/self/fd/{descriptor}/{SOCKET}") as stream:
            await stream.send_all(b'{"role": "gc"}\n')
            with trio.fail_after(20):
                assert b"inactive (dead)" in await stream.receive_some()
        os.close(descriptor)
        nursery.cancel_scope.cancel()


async def test_a_folder_that_cannot_be_used_costs_only_the_units(tmp_path: Path) -> None:
    server = Server(tmp_path)
    await server.mirrors.run(tmp_path / "gone")
    assert server.lives == 0
