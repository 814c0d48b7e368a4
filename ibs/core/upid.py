"""UPID, the name of a task for ever: `UPID:node:pid:pstart:taskid:starttime:type:escaped-id:auth-id:`.

Pure; imported by the task registry, the catalog, the API and both CLIs. Numbers are hexadecimal, upper case, at least
eight digits, and no more zeros in front than that takes. In the id, each byte of its UTF-8 form other than
`A-Z a-z 0-9 . _ -` is written `=HH`, upper case, so that a UPID needs no quoting in a shell, a URL or a file name.
Invariant: a text that parses is exactly what formatting gives, so UPIDs may be compared as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from ibs.core import limits
from ibs.core.access import AuthId, check_auth_id
from ibs.core.tasks import TaskType
from ibs.errors import UsageError

_NODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9A-F]{8}|[1-9A-F][0-9A-F]{8,15}", re.ASCII)
_ESCAPED: Final = re.compile(r"(?:[A-Za-z0-9._-]|=[0-9A-F]{2})*", re.ASCII)
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_NUMBER_MAX: Final = (1 << 64) - 1
_HINT: Final = "copy the whole UPID, with the colon at its end, from: ironcore-backup task list"


def escape_id(text: str) -> str:
    """The id as a UPID holds it."""
    return "".join([chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in text.encode()])


def unescape_id(text: str) -> str:
    """The inverse of `escape_id`. Raises UsageError, also for text that `escape_id` would not have written."""
    if _ESCAPED.fullmatch(text):
        raw = re.sub(rb"=(..)", lambda found: bytes([int(found[1], 16)]), text.encode())
        try:
            plain = raw.decode()
        except UnicodeDecodeError:
            plain = None
        if plain is not None and plain.isprintable() and escape_id(plain) == text:
            return plain
    raise UsageError(f"id {text!r} in a UPID is not valid", hint=_HINT)


@dataclass(frozen=True, slots=True)
class Upid:
    """A task's name, taken apart.

    `process_start` tells processes of one pid apart (clock ticks since boot); `task_number` counts the process's tasks;
    `started` is in seconds since 1970; `id` says what the task works on, such as `store:host/web01`, or is empty.
    """

    node: str
    pid: int
    process_start: int
    task_number: int
    started: int
    type: TaskType
    id: str
    auth_id: AuthId

    def __post_init__(self) -> None:
        """Raises UsageError for a value that could not be written."""
        if not _NODE.fullmatch(self.node):
            raise UsageError(
                f"node name {self.node!r} is not valid", hint="use 1-63 letters, digits, dots or dashes, no domain"
            )
        if not all(0 <= n <= _NUMBER_MAX for n in (self.pid, self.process_start, self.task_number, self.started)):
            raise UsageError("a number of a UPID is out of range")
        if not self.id.isprintable():
            raise UsageError(f"a task's id {self.id!r} is not printable")
        if len(self.id.encode()) > limits.TASK_ID_BYTES_MAX:
            raise UsageError(f"a task's id is longer than {limits.TASK_ID_BYTES_MAX} bytes", hint="use a shorter name")

    def __str__(self) -> str:
        return (
            f"UPID:{self.node}:{self.pid:08X}:{self.process_start:08X}:{self.task_number:08X}:{self.started:08X}"
            f":{self.type}:{escape_id(self.id)}:{self.auth_id}:"
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`. Raises UsageError on anything that `str` does not give."""
        fields = text.split(":", 10) if len(text) <= limits.UPID_CHARS_MAX else []
        if len(fields) != 10 or fields[0] != "UPID" or fields[9]:
            raise UsageError(f"UPID {text[:200]!r} is not valid", hint=_HINT)
        node, *numbers = fields[1:6]
        if not _NODE.fullmatch(node) or not all(map(_NUMBER.fullmatch, numbers)) or fields[6] not in set(TaskType):
            raise UsageError(f"UPID {text[:200]!r} is not valid", hint=_HINT)
        pid, process_start, task_number, started = (int(number, 16) for number in numbers)
        return cls(
            node=node,
            pid=pid,
            process_start=process_start,
            task_number=task_number,
            started=started,
            type=TaskType(fields[6]),
            id=unescape_id(fields[7]),
            auth_id=check_auth_id(fields[8]),
        )
