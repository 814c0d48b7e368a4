"""What systemd is told, and that nothing happens without it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import trio
import trio.testing

from ibs.runtime.clock import LoopClock
from ibs.runtime.sdnotify import Notifier, keep_telling


def test_ready_status_and_stopping_arrive_as_datagrams(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": path})
        assert notifier.ready("listening on 127.0.0.1:8007")
        assert notifier.status("7 services")
        assert notifier.stopping()
        assert receiver.recv(1000) == b"READY=1\nSTATUS=listening on 127.0.0.1:8007"
        assert receiver.recv(1000) == b"STATUS=7 services"
        assert receiver.recv(1000) == b"STOPPING=1\nSTATUS=stopping"


def test_abstract_sockets_are_understood() -> None:
    name = f"ibs-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name)
        assert Notifier(f"@{name}").stopping()
        assert receiver.recv(1000).startswith(b"STOPPING=1")


def test_without_systemd_nobody_is_told_and_nothing_fails(tmp_path: Path) -> None:
    assert not Notifier.from_environment({}).ready("x")
    assert not Notifier(str(tmp_path / "gone")).ready("x")


def test_the_watchdog_is_ours_only_when_it_is_meant_for_this_process() -> None:
    asked = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000"}
    assert Notifier.from_environment(asked).watchdog_seconds == 30.0
    assert Notifier.from_environment(asked | {"WATCHDOG_PID": str(os.getpid())}).watchdog_seconds == 30.0
    assert Notifier.from_environment(asked | {"WATCHDOG_PID": "1"}).watchdog_seconds == 0.0
    assert Notifier.from_environment(asked | {"WATCHDOG_USEC": "soon"}).watchdog_seconds == 0.0
    assert Notifier.from_environment(asked).heard
    assert not Notifier.from_environment({}).heard


async def test_the_loop_feeds_the_watchdog_and_tells_its_state_when_it_changes(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = str(tmp_path / "notify")
    texts = iter(["7 of 7 services", "7 of 7 services", "6 of 7 services"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.setblocking(False)
        notifier = Notifier(path, watchdog_seconds=3.0)
        with trio.move_on_after(2.5):
            await keep_telling(notifier, LoopClock(), lambda: next(texts))
        told = [receiver.recv(1000) for _ in range(5)]
        assert told == [
            b"WATCHDOG=1",
            b"STATUS=7 of 7 services",
            b"WATCHDOG=1",
            b"WATCHDOG=1",
            b"STATUS=6 of 7 services",
        ]
    await keep_telling(Notifier(""), LoopClock(), lambda: "nobody hears")
