"""Task logs as files: `STATE/tasks/xx/UPID.log`, one JSON object a line, only ever appended to.

Used by `engine.tasks` only; the functions block and are called through the pool. Invariants: whole lines lie below
the offset that the writer keeps, so a batch that failed half way (full disk) or is written twice after a cancellation
leaves no torn or double line; a torn last line (the process was killed while it wrote) is cut off before more is added
and is never shown.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import blake3
import msgspec

from ibs.core import limits
from ibs.ports.pool import Pool
from ibs.wire.system import TaskLogLine

_NAME_BYTES_MAX = 240
_decode = msgspec.json.Decoder(TaskLogLine).decode


class LogBuffer:
    """Lines of one task on their way to its file. Bounded: what comes on top is counted and said in one line.

    `offset` is where the next batch goes, `number` what the next line is called.
    """

    def __init__(self, path: Path, number: int = 0, offset: int = 0) -> None:
        self.path = path
        self.number = number
        self.offset = offset
        self.waiting: list[bytes] = []
        self.lost = 0

    def add(self, time: str, level: str, text: str, *, last: bool = False) -> None:
        """Take a line, or count it as lost; the last one is always taken."""
        full = self.number >= limits.TASK_LOG_LINES_MAX or len(self.waiting) >= limits.TASK_LOG_WAITING_LINES_MAX
        if full and not last:
            self.lost += 1
            return
        if self.lost:
            self._append(time, "warning", f"{self.lost} log lines were not kept: there were too many")
            self.lost = 0
        self._append(time, level, text)

    def _append(self, time: str, level: str, text: str) -> None:
        self.waiting.append(encode_line(self.number, time, level, text))
        self.number += 1

    async def flush(self, pool: Pool) -> None:
        """Bring what waits to the file. One caller at a time. *Cancellation*: nothing is lost or doubled.

        Raises OSError; the lines then go on waiting.
        """
        lines = self.waiting[:]
        self.offset = await pool.disk(write_lines, self.path, self.offset, lines)
        del self.waiting[: len(lines)]


def log_path(folder: Path, upid: str) -> Path:
    """The file of a task; over-long UPIDs are shortened and told apart by their digest."""
    digest = blake3.blake3(upid.encode()).hexdigest()
    name = upid if len(upid.encode()) <= _NAME_BYTES_MAX else f"{upid[:160]}~{digest[:32]}"
    return folder / digest[:2] / f"{name.replace('/', '~')}.log"


def encode_line(number: int, time: str, level: str, text: str) -> bytes:
    """One line, its text cut to the limit and safe for any byte that came in as a surrogate."""
    text = text[: limits.TASK_LOG_TEXT_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
    return msgspec.json.encode(TaskLogLine(n=number, time=time, level=level, text=text)) + b"\n"


def write_lines(path: Path, offset: int, lines: Sequence[bytes]) -> int:
    """Write at `offset`, the end of the last whole line; return the new end.

    *Durability*: survives the death of the process, not of the machine. Raises OSError; then nothing was added.
    """
    content = b"".join(lines)
    descriptor = _open_for_writing(path)
    try:
        view = memoryview(content)
        try:
            while view:
                view = view[os.pwrite(descriptor, view, offset + len(content) - len(view)) :]
        except OSError:
            os.ftruncate(descriptor, offset)
            raise
    finally:
        os.close(descriptor)
    return offset + len(content)


def _open_for_writing(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def read_lines(path: Path, offset: int, first: int) -> tuple[list[TaskLogLine], int]:
    """Whole lines from `offset` on with numbers from `first` up, and the offset after them.

    At most `limits.TASK_LOG_READ_BYTES` are read; at the end of the file the offset comes back unchanged.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return [], offset
    try:
        content = os.pread(descriptor, limits.TASK_LOG_READ_BYTES, offset)
    finally:
        os.close(descriptor)
    whole = content[: content.rfind(b"\n") + 1]
    lines = []
    for raw in whole.splitlines():
        try:
            line = _decode(raw)
        except msgspec.MsgspecError:
            continue  # zeros where the machine, not the process, died: the rest is still worth showing
        if line.n >= first:
            lines.append(line)
    return lines, offset + len(whole)


def recover(path: Path) -> tuple[int, int]:
    """Cut a torn last line off; return the number for the next line and the offset where it goes."""
    number, offset = 0, 0
    while True:
        lines, end = read_lines(path, offset, 0)
        if end == offset:
            break
        number, offset = (lines[-1].n + 1 if lines else number), end
    if path.exists() and path.stat().st_size > offset:
        os.truncate(path, offset)
    return number, offset


def remove_logs(folder: Path, upids: Sequence[str]) -> None:
    """Delete the logs of forgotten tasks."""
    for upid in upids:
        log_path(folder, upid).unlink(missing_ok=True)
