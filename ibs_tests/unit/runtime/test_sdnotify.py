"""What systemd is told, and that nothing happens without it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ibs.runtime.sdnotify import Notifier


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
