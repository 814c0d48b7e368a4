"""The mirror's process: what systemd and the journal get, and how it ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ibs.cli import mirror
from ibs.cli.mirror import Journal, Mirror, connect, journal_entry, leads_to_journal
from ibs.runtime.sdnotify import Notifier

LINE = {
    "time": "2026-11-22T19:00:00Z",
    "role": "gc",
    "level": "error",
    "event": "freed nothing",
    "upid": "UPID:x:",
    "auth_id": "root@ibs",
    "bytes": 0,
}


def view(state: str, **more: Any) -> dict[str, Any]:
    told = {"unit": "ironcore-backup-gc", "role": "gc", "state": state, "since": "2026-11-22T19:00:00Z"}
    return {"state": told | {"restarts": 0, "duty": "collects garbage", "last_error": ""} | more}


@contextmanager
def server(folder: Path, *messages: dict[str, Any]) -> Iterator[list[bytes]]:
    """Takes one mirror, sends it the messages, and keeps what it said."""
    said: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "mirror.sock"))
        listener.listen(1)

        def serve() -> None:
            stream, _ = listener.accept()
            with stream:
                said.append(stream.recv(1000))
                for message in messages:
                    stream.sendall(json.dumps(message).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield said
        thread.join(20)


class Systemd(Notifier):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("/nowhere")
        self.told: list[str] = []

    def _send(self, text: str) -> bool:
        self.told.append(text)
        return True


def run(folder: Path, *messages: dict[str, Any]) -> tuple[int, list[str]]:
    systemd = Systemd()
    with server(folder, *messages) as said:
        status = Mirror("gc", Journal("gc", native=False), systemd).run(str(folder))
    assert [json.loads(word) for word in said] == [{"role": "gc"}]
    return status, systemd.told


def test_states_go_to_systemd_and_lines_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = view("activating (auto-restart)", restarts=1, last_error="OSError: gone")
    status, told = run(
        tmp_path, view("active (running)"), {"line": LINE}, broken, {"lost": 4}, {"bye": "the server stops"}
    )
    assert status == 0
    assert told == [
        "READY=1\nSTATUS=active (running) since 2026-11-22T19:00:00Z, 0 restarts; collects garbage",
        "STATUS=activating (auto-restart) since 2026-11-22T19:00:00Z, 1 restarts; collects garbage; OSError: gone",
    ]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == LINE
    assert [line["event"] for line in lines[1:]] == [
        "log lines were lost on their way to the journal",
        "the server says goodbye: the server stops",
    ]
    assert {tuple(line)[:6] for line in lines} == {tuple(LINE)[:6]}


def test_a_role_that_failed_for_good_fails_its_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = run(tmp_path, view("active (running)"), view("failed", last_error="OSError: gone"))
    assert status == 1
    assert told[-1] == "STATUS=failed since 2026-11-22T19:00:00Z: OSError: gone"
    assert "service ironcore-backup-gc is failed: OSError: gone" in capsys.readouterr().out


def test_a_server_that_vanishes_or_refuses_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path, view("active (running)"))[0] == 6
    assert "the server is gone" in capsys.readouterr().out
    (tmp_path / "mirror.sock").unlink()
    assert run(tmp_path, {"bye": "there is no service 'gc'"})[0] == 1
    monkeypatch.setattr(mirror, "connect", lambda folder: connect(folder, 0.0))
    assert Mirror("gc", Journal("gc", native=False), Systemd()).run(str(tmp_path / "gone")) == 6
    assert "cannot be reached" in capsys.readouterr().out


def test_people_read_lines_without_json(capsys: pytest.CaptureFixture[str]) -> None:
    Journal("gc", native=False, readable=True).write(LINE | {"path": "a\udcff"})
    assert capsys.readouterr().out == "2026-11-22T19:00:00Z error: freed nothing  bytes=0 path=a\\udcff\n"


def test_entries_of_the_journal_have_fields_of_their_own() -> None:
    entry = journal_entry("gc", LINE, "{}")
    assert entry.splitlines() == [
        b"MESSAGE=freed nothing  bytes=0",
        b"PRIORITY=3",
        b"SYSLOG_IDENTIFIER=ironcore-backup-gc",
        b"SYSLOG_FACILITY=3",
        b"IBS_ROLE=gc",
        b"IBS_TIME=2026-11-22T19:00:00Z",
        b"IBS_LEVEL=error",
        b"IBS_UPID=UPID:x:",
        b"IBS_AUTH_ID=root@ibs",
        b"IBS_LINE={}",
    ]
    trace = journal_entry("gc", LINE | {"exception": "a\nb"}, "")
    message = b"freed nothing  bytes=0\na\nb"
    assert trace.startswith(b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\nPRIORITY=3\n")
    assert b"IBS_LINE" not in trace


def test_a_line_that_is_too_long_for_a_datagram_goes_without_its_copy(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        to = Journal("gc", native=True, path=path)
        to.write(LINE)
        assert b"IBS_LINE={" in journal.recv(1 << 20)
        to.write(LINE | {"list": "x" * 5_000_000})
        shortened = journal.recv(1 << 20)
        assert b"IBS_LINE" not in shortened
        assert shortened.startswith(b"MESSAGE=freed nothing  ")
        assert to._socket is not None
        to._socket.close()


def test_stdout_is_the_journal_only_when_systemd_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    held = os.fstat(sys.stdout.fileno())
    assert leads_to_journal({"JOURNAL_STREAM": f"{held.st_dev}:{held.st_ino}"})
    assert not leads_to_journal({"JOURNAL_STREAM": "1:2"})
    assert not leads_to_journal({})


def test_it_is_light() -> None:
    """Seven of them run beside the server: none of the heavy packages, little memory."""
    code = (
        "import sys, ibs.cli.mirror; "
        "heavy = {'trio', 'typer', 'rich', 'msgspec', 'httpx', 'ssl', 'numpy', 'asyncio'} & set(sys.modules); "
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_signal_is_told_to_the_server_as_leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(mirror, "connect", lambda _folder: ours)

    def stopped(_stream: socket.socket) -> Iterator[dict[str, Any]]:
        yield view("active (running)")
        raise mirror._Stop

    monkeypatch.setattr(mirror, "_messages", stopped)
    systemd = Systemd()
    with theirs:
        assert Mirror("gc", Journal("gc", native=False), systemd).run(str(tmp_path)) == 0
        assert theirs.recv(1000).splitlines() == [b'{"role": "gc"}', b'{"leaving": true}']
    assert systemd.told[-1].startswith("STOPPING=1")
