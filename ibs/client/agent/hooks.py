"""Runs a hook of this host before or after a backup: a program by name, with facts in its environment, no shell.

Used by `client.agent.job`. What it prints becomes lines of the task's log, bounded in number and length.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import trio

from ibs.core import limits
from ibs.errors import FailedError
from ibs.wire.session import LogLine

_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OUTPUT_BYTES_MAX = limits.HOOK_OUTPUT_LINES_MAX * 1024


async def run_hook(
    path: Path, facts: Mapping[str, str], *, seconds_max: float = limits.HOOK_SECONDS_MAX
) -> list[LogLine]:
    """Run it to its end; what it printed. `facts` are environment variables.

    Raises FailedError (with the last line it printed) when it cannot be run, fails, or takes too long.
    *Cancellation*: it gets SIGTERM, and SIGKILL a little later.
    """
    output = bytearray()
    status: int | None = None
    trouble: OSError | None = None
    start = partial(
        trio.run_process,
        [str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": _SEARCH, "LANG": os.environ.get("LANG", "C.UTF-8"), **facts},
        cwd="/",
        check=False,
    )
    async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the program while its output is read
        try:
            process: trio.Process = await nursery.start(start)
        except OSError as error:
            trouble = error
        else:
            with trio.move_on_after(seconds_max):
                await _collect(process, output)
                status = await process.wait()
            nursery.cancel_scope.cancel()
    if trouble is not None:
        raise FailedError(
            f"hook {path.name} cannot be run: {trouble.strerror}", hint=f"look at {path} on the host"
        ) from trouble
    lines = [
        LogLine(level="info", text=f"{path.name}: {text}"[: limits.TASK_LOG_TEXT_CHARS_MAX])
        for text in output.decode("utf-8", "replace").splitlines()
        if text.strip()
    ]
    lines = lines[-limits.HOOK_OUTPUT_LINES_MAX :]
    if status != 0:
        how = f"took longer than {seconds_max:g} seconds" if status is None else f"failed with status {status}"
        last = f": {lines[-1].text.partition(': ')[2]}" if lines else ""
        raise FailedError(f"hook {path.name} {how}{last}", hint=f"look at {path} on the host")
    return lines


async def _collect(process: trio.Process, output: bytearray) -> None:
    """The end of what it prints; the rest is let go."""
    if process.stdout is None:
        return
    async for piece in process.stdout:
        output += piece
        del output[:-_OUTPUT_BYTES_MAX]
