"""The process behind `ironcore-backup-ROLE.service`: shows one role's state to systemd and its lines to the journal.

Started by `ironcore-backup service watch`, which replaces itself by this module, so that seven of them cost little
memory: nothing but the standard library here. The protocol is told in `ibs.services.mirror`. Ends with 0 when it is
stopped or the server says goodbye, 1 when the role has failed for good, 6 when the server is gone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, NoReturn

from ibs.runtime.sdnotify import Notifier

UNIT_PREFIX: Final = "ironcore-backup-"
JOURNAL: Final = "/run/systemd/journal/socket"
CONNECT_SECONDS_MAX: Final = 30.0
_RETRY_SECONDS: Final = 0.2
_LINE_BYTES_MAX: Final = 1 << 20
_PRIORITIES: Final = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
_HEAD: Final = ("time", "role", "level", "event", "upid", "auth_id")
_DONE, _FAILED, _GONE = 0, 1, 6


class _Stop(BaseException):
    """SIGTERM or SIGINT arrived."""


class Journal:
    """Where lines go: the journal with fields of its own when stdout leads there, else stdout.

    There they are JSON, or with `readable` in a form for people.
    """

    def __init__(self, role: str, *, native: bool, path: str = JOURNAL, readable: bool = False) -> None:
        self._role = role
        self._path = path
        self._readable = readable
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if native else None

    def write(self, line: Mapping[str, Any]) -> None:
        """One line of the role's log."""
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
        if self._socket is not None:
            for whole in (text, ""):  # a datagram has a limit; without the whole line it fits
                with suppress(OSError):
                    self._socket.sendto(journal_entry(self._role, line, whole), self._path)
                    return
        if self._readable:
            text = f"{line.get('time', '')} {line.get('level', '')}: {_message(line)}"
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
        sys.stdout.flush()

    def say(self, level: str, event: str, **fields: Any) -> None:
        """A line of the mirror's own."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.write(
            {"time": now, "role": self._role, "level": level, "event": event, "upid": "", "auth_id": ""} | fields
        )


def journal_entry(role: str, line: Mapping[str, Any], whole: str) -> bytes:
    """An entry of the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): what people read, and fields."""
    fields = {
        "MESSAGE": _message(line),
        "PRIORITY": str(_PRIORITIES.get(str(line.get("level", "")), 6)),
        "SYSLOG_IDENTIFIER": UNIT_PREFIX + role,
        "SYSLOG_FACILITY": "3",
        "IBS_ROLE": role,
        "IBS_TIME": str(line.get("time", "")),
        "IBS_LEVEL": str(line.get("level", "")),
        "IBS_UPID": str(line.get("upid", "")),
        "IBS_AUTH_ID": str(line.get("auth_id", "")),
        "IBS_LINE": whole,
    }
    entry = b""
    for name, value in fields.items():
        data = value.encode("utf-8", "backslashreplace")
        if b"\n" in data:
            entry += name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
        elif data:
            entry += name.encode() + b"=" + data + b"\n"
    return entry


def _message(line: Mapping[str, Any]) -> str:
    more = " ".join(f"{key}={value}" for key, value in line.items() if key not in _HEAD and key != "exception")
    message = str(line.get("event", "")) + (f"  {more[:2000]}" if more else "")
    return f"{message}\n{str(line['exception'])[:16_000]}" if line.get("exception") else message


def leads_to_journal(environment: Mapping[str, str]) -> bool:
    """Whether stdout is the stream that systemd made for this process (JOURNAL_STREAM, systemd.exec(5))."""
    try:
        held = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM", "") == f"{held.st_dev}:{held.st_ino}"


class Mirror:
    """One role's mirror."""

    def __init__(self, role: str, journal: Journal, notifier: Notifier) -> None:
        self._role = role
        self._journal = journal
        self._notifier = notifier
        self._ready = False

    def run(self, folder: str) -> int:
        """Show the role until somebody ends it; return the exit status."""
        stream: socket.socket | None = None
        try:
            stream = connect(folder)
            stream.sendall(json.dumps({"role": self._role}).encode() + b"\n")
            for message in _messages(stream):
                status = self._take(message)
                if status is not None:
                    return status
        except _Stop:
            self._notifier.stopping()
            if stream is not None:
                with suppress(OSError):
                    stream.sendall(b'{"leaving": true}\n')
            return _DONE
        except OSError as error:
            self._journal.say("error", f"the server cannot be reached: {error.strerror or error}")
            return _GONE
        finally:
            if stream is not None:
                stream.close()
        self._journal.say("error", "the server is gone")
        return _GONE

    def _take(self, message: Mapping[str, Any]) -> int | None:
        if "line" in message:
            self._journal.write(message["line"])
        elif "lost" in message:
            self._journal.say("warning", "log lines were lost on their way to the journal", lines=message["lost"])
        elif "bye" in message:
            self._journal.say("info", f"the server says goodbye: {message['bye']}")
            return _DONE if self._ready else _FAILED
        elif "state" in message:
            return self._show(message["state"])
        return None

    def _show(self, view: Mapping[str, Any]) -> int | None:
        state, why = view["state"], view.get("last_error", "")
        text = f"{state} since {view['since']}, {view['restarts']} restarts; {view['duty']}"
        if state == "failed":
            self._notifier.status(f"{state} since {view['since']}: {why}")
            self._journal.say("critical", f"service {view['unit']} is failed: {why}")
            return _FAILED
        if state != "active (running)" and why:
            text += f"; {why}"
        if self._ready:
            self._notifier.status(text)
        else:
            self._notifier.ready(text)
            self._ready = True
        return None


def connect(folder: str, seconds_max: float = CONNECT_SECONDS_MAX) -> socket.socket:
    """A connection to the server whose state is in `folder`, tried until the deadline. Raises OSError."""
    deadline = time.monotonic() + seconds_max
    while True:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                stream.connect(f"/proc/self/fd/{descriptor}/mirror.sock")
            finally:
                os.close(descriptor)
            return stream
        except (FileNotFoundError, ConnectionRefusedError):
            stream.close()
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_SECONDS)  # noqa: TID251 - a program of its own, without a loop
        except BaseException:
            stream.close()
            raise


def _messages(stream: socket.socket) -> Iterator[Mapping[str, Any]]:
    held = b""
    while piece := stream.recv(1 << 16):
        *lines, held = (held + piece).split(b"\n")
        for line in lines:
            yield json.loads(line)
        if len(held) > _LINE_BYTES_MAX:
            return


def main(arguments: list[str]) -> NoReturn:
    """`ROLE FOLDER`, then perhaps `text` for lines that people read."""
    role, folder, *form = arguments

    def stop(_number: int, _frame: object) -> None:
        raise _Stop

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    journal = Journal(role, native=leads_to_journal(os.environ), readable=form == ["text"])
    sys.exit(Mirror(role, journal, Notifier.from_environment(os.environ)).run(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
