"""Logs: one JSON object a line, one file a role, written by a thread of their own.

Importable by everyone; imports nothing of ours. Schema of a line, in this order: `time` (RFC 3339, UTC), `role`,
`level`, `event` (a short sentence), `upid` and `auth_id` ("" when nothing is being done for anybody), then the event's
fields. Invariants: logging never blocks and never fails the caller; a line is built and cleaned of secrets when it is
logged, and written whole; lines that did not fit the bounded queue are counted and the count is logged; one thread
writes, so rotation cannot tear or lose a line, be it our own or another program's: a file that was moved away is made
anew with the next line. Without a log folder the same lines go to stderr in a form for people.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
import structlog

FILE_BYTES_MAX: Final = 32 << 20
FILES_KEPT: Final = 8
QUEUE_LINES_MAX: Final = 10_000
LINE_CHARS_MAX: Final = 64 << 10
DEPTH_MAX: Final = 6
ROLE_OF_LIBRARIES: Final = "api"
"""Warnings of libraries we use go to this role's file."""

_ROOT = "ibs"
_HEAD = ("time", "role", "level", "event", "upid", "auth_id")
_SECRET = re.compile(r"secret|token(?!s)|passw|passphrase|authorization|cookie|private", re.IGNORECASE)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+\S+")
_URL_REST = re.compile(r"^([a-z]+://(?:[^/@]*@)?[^/?#]*/).+", re.IGNORECASE | re.DOTALL)
_REDACTED = "[redacted]"
_INT_MAX = (1 << 63) - 1


def get_logger(role: str) -> structlog.stdlib.BoundLogger:
    """The logger of a role. Call it as `log.info("sentence", field=value)`; never put a secret into the sentence."""
    logger = structlog.wrap_logger(
        logging.getLogger(f"{_ROOT}.{role}"),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            _finish(role),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast("structlog.stdlib.BoundLogger", logger)


@contextmanager
def bound(*, upid: str | None = None, auth_id: str | None = None) -> Iterator[None]:
    """Lines logged inside, also by tasks and threads started there, carry these."""
    given = {name: value for name, value in (("upid", upid), ("auth_id", auth_id)) if value is not None}
    with structlog.contextvars.bound_contextvars(**given):
        yield


def redact(value: Any, *, depth: int = 0) -> Any:
    """A copy fit for JSON and for strangers: what a secret-looking key holds is gone, bytes are hex, depth is bounded.

    Text that is no valid Unicode (file names) has its odd bytes written as `\\udcff`.
    """
    if isinstance(value, Mapping):
        if depth >= DEPTH_MAX:
            return "…"
        return {str(key): _held(str(key), held, depth) for key, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(held, depth=depth + 1) for held in value] if depth < DEPTH_MAX else "…"
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and -_INT_MAX <= value <= _INT_MAX):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value[:64]).hex()
    if isinstance(value, datetime):
        return value.isoformat()
    text = value if isinstance(value, str) else str(value)
    text = text[:LINE_CHARS_MAX].encode("utf-8", "backslashreplace").decode("utf-8")
    return _BEARER.sub(rf"\1 {_REDACTED}", text)


def _held(key: str, held: Any, depth: int) -> Any:
    """What stands under a key. Of an address only the place: what follows is often a credential (chat webhooks)."""
    if _SECRET.search(key) and held:
        return _REDACTED
    if key == "url" and isinstance(held, str):
        return _URL_REST.sub(rf"\1{_REDACTED}", held)
    return redact(held, depth=depth + 1)


class Logs:
    """Where lines go while the server runs. Make it with `configure`, and `close` it at the end."""

    def __init__(self, sink: logging.Handler, level: int, queue_lines: int) -> None:
        self._sink = sink
        lines: queue.Queue[logging.LogRecord | None] = queue.Queue(queue_lines)
        self._entrance = _Entrance(lines)
        self._listener = _Listener(lines, sink)
        self._root = logging.getLogger(_ROOT)
        self._level_before = self._root.level
        self._root.setLevel(level)
        self._root.addHandler(self._entrance)
        self._foreign = _Foreign(self._entrance)
        logging.getLogger().addHandler(self._foreign)
        self._listener.start()

    @property
    def lost(self) -> int:
        """Lines that found the queue full since the start."""
        return self._entrance.lost

    def drain(self, seconds: float) -> bool:
        """Wait at most `seconds` until all that was logged so far is written; return whether it is. Blocks.

        For a program that is about to end without `close`.
        """
        return self._listener.drained(seconds)

    def close(self) -> None:
        """Write what is queued, then close the files. Blocks for as long as the disk needs."""
        logging.getLogger().removeHandler(self._foreign)
        self._root.removeHandler(self._entrance)
        self._root.setLevel(self._level_before)
        self._listener.stop()
        self._sink.close()


def configure(
    log_dir: Path | None,
    *,
    level: str = "info",
    file_bytes_max: int = FILE_BYTES_MAX,
    files_kept: int = FILES_KEPT,
    queue_lines: int = QUEUE_LINES_MAX,
    stderr: IO[str] | None = None,
) -> Logs:
    """Send lines to `log_dir`/ROLE.log (made when missing, 0750; files 0640), or to stderr when it is None.

    A file of `file_bytes_max` bytes is renamed to ROLE.log.1 and so on; `files_kept` old ones stay. Several may be
    configured at once (tests run several servers in one process): each gets all lines. Raises OSError.
    """
    sink: logging.Handler
    if log_dir is None:
        sink = logging.StreamHandler(stderr or sys.stderr)
        sink.setFormatter(_Readable())
    else:
        log_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        sink = _RoleFiles(log_dir, file_bytes_max, files_kept)
    return Logs(sink, logging.getLevelNamesMapping()[level.upper()], queue_lines)


@contextmanager
def tap(listener: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Hand every line that is logged inside to `listener`, as the fields of the schema, besides writing it.

    It is called in the thread that logs, one line at a time; it must neither block nor log. What it raises is lost.
    """
    entrance = _Tap(listener)
    foreign = _Foreign(entrance)
    logging.getLogger(_ROOT).addHandler(entrance)
    logging.getLogger().addHandler(foreign)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(foreign)
        logging.getLogger(_ROOT).removeHandler(entrance)


def _finish(role: str) -> Callable[[Any, str, structlog.typing.EventDict], tuple[tuple[str], dict[str, Any]]]:
    def processor(_logger: Any, method: str, fields: structlog.typing.EventDict) -> tuple[tuple[str], dict[str, Any]]:
        level = "error" if method == "exception" else method
        event = str(fields.pop("event", ""))
        # `%` marks are not ours to expand: the standard library formats only when it gets arguments.
        return (event,), {"extra": {"ibs": _line(role, level, event, fields)}}

    return processor


def _line(role: str, level: str, event: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a line in the order of the schema; a field with a name of the schema gets a `_`."""
    rest = dict(fields)
    head = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "role": role,
        "level": level,
        "event": redact(event),
        "upid": str(rest.pop("upid", "")),
        "auth_id": str(rest.pop("auth_id", "")),
    }
    cleaned = redact(rest)
    return head | {(f"{key}_" if key in _HEAD else key): value for key, value in cleaned.items()}


def _encoded(line: dict[str, Any]) -> str:
    text = msgspec.json.encode(line).decode("utf-8")
    if len(text) <= LINE_CHARS_MAX:
        return text
    short = {key: line[key][:1024] for key in _HEAD} | {"truncated_chars": len(text)}
    return msgspec.json.encode(short | {"exception": str(line.get("exception", ""))[-8192:]}).decode("utf-8")


class _Entrance(logging.handlers.QueueHandler):
    """Puts records into the bounded queue; counts those that do not fit and says so as soon as one fits again."""

    def __init__(self, lines: queue.Queue[logging.LogRecord | None]) -> None:
        super().__init__(lines)
        self._lines = lines
        self.lost = 0
        self._told = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # the line was built by the caller; nothing in it changes any more

    def enqueue(self, record: logging.LogRecord) -> None:
        # Called under the handler's lock, so the two counters need no other.
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            self.lost += 1
            return
        if self.lost > self._told:
            missing = self.lost - self._told
            role = record.name.removeprefix(f"{_ROOT}.")
            note = logging.LogRecord(record.name, logging.WARNING, "", 0, "log lines were lost", (), None)
            note.ibs = _line(role, "warning", "log lines were lost", {"lines": missing})
            try:
                self._lines.put_nowait(note)
            except queue.Full:
                return
            self._told = self.lost


class _Tap(logging.Handler):
    """Shows lines to somebody of this process."""

    def __init__(self, listener: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._listener = listener

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # whoever looks on must not keep the line from being written
            self._listener(_fields(record))


class _Foreign(logging.Handler):
    """Brings warnings of libraries into our schema."""

    def __init__(self, entrance: logging.Handler) -> None:
        super().__init__(logging.WARNING)
        self._entrance = entrance

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == _ROOT:
            return
        fields: dict[str, Any] = {"library": record.name}
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        record.ibs = _line(ROLE_OF_LIBRARIES, record.levelname.lower(), record.getMessage(), fields)
        self._entrance.handle(record)


class _Listener(logging.handlers.QueueListener):
    """The standard listener, whose end waits for room in the bounded queue."""

    def __init__(self, lines: queue.Queue[logging.LogRecord | None], sink: logging.Handler) -> None:
        super().__init__(lines, sink)
        self._lines = lines

    def enqueue_sentinel(self) -> None:
        self._lines.put(None)

    def drained(self, seconds: float) -> bool:
        """Whether the queue was empty, and its last line written, within `seconds`."""
        with self._lines.all_tasks_done:
            return self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, seconds)


class _RoleFiles(logging.Handler):
    """One rotating file a role, made when its first line comes. Used by the writing thread only."""

    def __init__(self, folder: Path, file_bytes_max: int, files_kept: int) -> None:
        super().__init__()
        self._folder = folder
        self._bytes_max = file_bytes_max
        self._kept = files_kept
        self._files: dict[str, _File] = {}

    def emit(self, record: logging.LogRecord) -> None:
        role = str(record.ibs["role"]) if hasattr(record, "ibs") else ROLE_OF_LIBRARIES
        file = self._files.get(role)
        if file is None:
            try:
                file = _File(self._folder / f"{role}.log", self._bytes_max, self._kept)
            except OSError:
                self.handleError(record)
                return
            self._files[role] = file
        file.handle(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - named by the standard library
        _complain(record)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        super().close()


class _File(logging.handlers.RotatingFileHandler):
    """ROLE.log, mode 0640. Another program may move or remove the file at any time: the next line makes a new one."""

    def __init__(self, path: Path, bytes_max: int, kept: int) -> None:
        super().__init__(path, maxBytes=bytes_max, backupCount=kept, encoding="utf-8", errors="backslashreplace")

    def _open(self) -> Any:
        return open(
            self.baseFilename,
            self.mode,
            encoding=self.encoding,
            errors=self.errors,
            opener=lambda path, flags: os.open(path, flags | os.O_CLOEXEC, 0o640),
        )

    def emit(self, record: logging.LogRecord) -> None:
        if self.stream is not None and self._moved(self.stream):
            self.stream.close()
            self.stream = None  # the standard library opens it again
        super().emit(record)

    def _moved(self, stream: IO[str]) -> bool:
        """Whether the open file is no longer the one of that name. Two looks a line, some microseconds."""
        try:
            named, held = os.stat(self.baseFilename), os.fstat(stream.fileno())
        except FileNotFoundError:
            return True
        except OSError:
            return False  # writing will tell what is wrong
        return (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino)

    def format(self, record: logging.LogRecord) -> str:
        return _encoded(_fields(record))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - named by the standard library
        _complain(record)


class _Readable(logging.Formatter):
    """`2026-11-22T19:00:00.123Z warning api: sentence  field=value`."""

    def format(self, record: logging.LogRecord) -> str:
        line = dict(_fields(record))
        exception = line.pop("exception", "")
        time, role, level, event = (line.pop(key) for key in _HEAD[:4])
        fields = " ".join(f"{key}={value}" for key, value in line.items() if value != "")
        text = f"{time} {level} {role}: {event}" + (f"  {fields}" if fields else "")
        return f"{text}\n{exception}" if exception else text


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return cast("dict[str, Any]", record.ibs)  # type: ignore[attr-defined]  # every way in sets it


def _complain(record: logging.LogRecord) -> None:
    """The log itself cannot be written (full disk, lost folder): say so on stderr, with the line, and go on."""
    error = sys.exc_info()[1]
    print(f"log not written ({error}): {_Readable().format(record)}", file=sys.stderr)  # noqa: T201 - the last resort
