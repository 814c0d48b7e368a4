"""Log files: whole lines only, whatever happened while they were written."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
import trio

from ibs.core import limits
from ibs.engine import tasklog
from ibs.engine.tasklog import LogBuffer, encode_line, log_path, read_lines, recover, remove_logs, write_lines
from ibs.runtime.pool import InlinePool
from ibs.wire.system import TaskLogLine

NOW = "2026-11-22T19:00:00Z"


def texts(path: Path) -> list[str]:
    return [line.text for line in read_lines(path, 0, 0)[0]]


def test_names_are_bounded_private_and_distinct(tmp_path: Path) -> None:
    upid = "UPID:web01:00000001:00000002:00000003:6561:backup:main=2Fhost:root@ibs!x:"
    path = log_path(tmp_path, upid)
    assert path.name == f"{upid}.log"
    assert len(path.parent.name) == 2
    long = [log_path(tmp_path, "UPID:" + "x" * 3000 + end) for end in "ab"]
    assert long[0] != long[1]
    write_lines(long[0], 0, [b"x\n"])
    assert stat.S_IMODE(long[0].stat().st_mode) == 0o600
    assert log_path(tmp_path, "UPID:../../etc").parent.parent == tmp_path
    remove_logs(tmp_path, ["UPID:" + "x" * 3000 + "a", upid])
    assert not long[0].exists()


def test_lines_go_out_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "xx" / "a.log"
    text = "größe \udcff\n\0" + "y" * 9000
    end = write_lines(path, 0, [encode_line(0, NOW, "info", text), encode_line(1, NOW, "error", "b")])
    lines, offset = read_lines(path, 0, 0)
    assert offset == end == path.stat().st_size
    assert lines[0].text == ("größe \\udcff\n\0" + "y" * 9000)[: limits.TASK_LOG_TEXT_CHARS_MAX + 5]
    assert lines[1] == TaskLogLine(n=1, time=NOW, level="error", text="b")
    assert read_lines(path, 0, 1)[0] == lines[1:]
    assert read_lines(path, end, 0) == ([], end)
    assert read_lines(tmp_path / "none", 0, 0) == ([], 0)


def test_a_long_log_is_read_in_bounded_pieces(tmp_path: Path) -> None:
    path, count = tmp_path / "a.log", 3 * limits.TASK_LOG_READ_BYTES // 1000
    write_lines(path, 0, [encode_line(n, NOW, "info", "x" * 1000) for n in range(count)])
    seen, offset = [], 0
    while True:
        lines, end = read_lines(path, offset, 0)
        if end == offset:
            break
        assert end - offset <= limits.TASK_LOG_READ_BYTES
        seen, offset = seen + [line.n for line in lines], end
    assert seen == list(range(count))


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_never_shown_and_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.log"
    end = write_lines(path, 0, [encode_line(n, NOW, "info", f"line {n}") for n in range(3)])
    os.truncate(path, end - cut)
    assert texts(path) == ["line 0", "line 1"]
    number, offset = recover(path)
    assert number == 2
    assert path.stat().st_size == offset
    write_lines(path, offset, [encode_line(number, NOW, "error", "end")])
    assert texts(path) == ["line 0", "line 1", "end"]


def test_zeros_after_a_power_loss_hide_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(encode_line(0, NOW, "info", "a") + bytes(50) + b"\n" + encode_line(2, NOW, "info", "c"))
    assert texts(path) == ["a", "c"]
    assert recover(path)[0] == 3


def test_recover_of_nothing(tmp_path: Path) -> None:
    assert recover(tmp_path / "none") == (0, 0)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    first = write_lines(path, 0, [encode_line(0, NOW, "info", "a")])
    real, calls = os.pwrite, []

    def short(descriptor: int, data: memoryview, offset: int) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:7], offset)

    with monkeypatch.context() as patch:
        patch.setattr(tasklog.os, "pwrite", short)
        with pytest.raises(OSError, match="No space"):
            write_lines(path, first, [encode_line(1, NOW, "info", "b")])
    assert path.stat().st_size == first
    write_lines(path, first, [encode_line(1, NOW, "info", "b")])
    assert texts(path) == ["a", "b"]


async def test_lines_over_the_bounds_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TASK_LOG_WAITING_LINES_MAX", 3)
    monkeypatch.setattr(limits, "TASK_LOG_LINES_MAX", 6)
    buffer = LogBuffer(tmp_path / "a.log")
    for n in range(5):
        buffer.add(NOW, "info", f"a{n}")
    await buffer.flush(InlinePool())
    for n in range(5):
        buffer.add(NOW, "info", f"b{n}")
    buffer.add(NOW, "info", "last", last=True)
    await buffer.flush(InlinePool())
    lines = read_lines(buffer.path, 0, 0)[0]
    assert [line.n for line in lines] == list(range(len(lines)))
    two, three = (f"{n} log lines were not kept: there were too many" for n in (2, 3))
    assert [line.text for line in lines] == ["a0", "a1", "a2", two, "b0", "b1", three, "last"]


async def test_a_cancelled_flush_doubles_nothing(tmp_path: Path) -> None:
    class Late(InlinePool):
        """Cancels after the work was done, as a pool may."""

        async def disk(self, work, *args):
            result = await super().disk(work, *args)
            scope.cancel()
            await trio.lowlevel.checkpoint()
            return result

    buffer = LogBuffer(tmp_path / "a.log")
    buffer.add(NOW, "info", "a")
    with trio.CancelScope() as scope:
        await buffer.flush(Late())
    assert scope.cancelled_caught
    buffer.add(NOW, "info", "b")
    await buffer.flush(InlinePool())
    assert texts(buffer.path) == ["a", "b"]
