"""Hands the opening of chunks to a second process (`helper`), for as long as there is one.

Imported by `client.restore.run`. Until the helper is ready, whenever shared memory is short, and after it has ended
early for whatever reason, chunks are opened in this process: a restore never depends on it. Results are the same
either way, and the helper proves each chunk as this process would.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from ibs.client.dataplane import Line
from ibs.client.failures import error_from_body
from ibs.client.restore.helper import Answer, Frames, Place, Request, Setup, frame
from ibs.client.restore.opener import LocalOpener, Opened, Wanted
from ibs.core import limits_restore
from ibs.core.keys import DataKeys
from ibs.errors import FormatError
from ibs.runtime.arena import Arena

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError, FormatError)


def worth_it(plain_bytes: int) -> bool:
    """Whether a restore of so many bytes gains by a second process: it takes a third of a second to start."""
    return plain_bytes >= limits_restore.HELPER_PLAIN_BYTES_MIN and len(os.sched_getaffinity(0)) > 1


@dataclass(slots=True)
class _Asked:
    """A request under way. `answer` stays None when the helper ended first."""

    done: trio.Event = field(default_factory=trio.Event)
    answer: Answer | None = None


class HelperOpener:
    """See `opener.Opener`. `local` does what the helper does not."""

    def __init__(self, local: LocalOpener, line: Line, *, domain: bytes, keys: DataKeys | None) -> None:
        self._local = local
        self.figures = local.figures
        self._setup = Setup(
            line.host, line.port, str(line.pins), line.hello, domain, keys.root if keys is not None else b""
        )
        self._arena: Arena | None = None
        self._input: trio.abc.SendStream | None = None
        self._sending = trio.Lock()
        self._asked: dict[int, _Asked] = {}
        self._number = 0

    async def serve(self) -> None:
        """The helper's life. Returns when it has ended, or could not begin."""
        try:
            self._arena = Arena(limits_restore.HELPER_MEMORY_BYTES)
        except OSError:
            return
        try:
            await self._run(self._arena)
        except _GONE:
            return
        finally:
            self._input = None
            self._arena.close()
            for asked in self._asked.values():
                asked.done.set()
            self._asked.clear()

    async def _run(self, arena: Arena) -> None:
        command = [sys.executable, "-P", "-m", "ibs.client.restore.helper", str(arena.fd), str(arena.size)]
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[arena.fd],
        )
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101 - asked for above
        try:
            async with process.stdin, process.stdout:
                await process.stdin.send_all(frame(self._setup))
                answers = Frames(process.stdout, Answer)
                while (answer := await answers.next()) is not None:
                    if answer.number == 0:
                        self._input = process.stdin
                    elif (asked := self._asked.pop(answer.number, None)) is not None:
                        asked.answer = answer
                        asked.done.set()
        finally:
            # Before its memory is used for anything else, it must be certain that nobody writes there any more.
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()

    async def open(self, wanted: Sequence[Wanted]) -> list[Opened]:
        """See the port."""
        places = self._places(wanted) if self._input is not None else None
        if places is None:
            return await self._local.open(wanted)
        answer = await self._ask(places)
        if answer is None:
            return await self._local.open(wanted)
        fetch, decode, stored = answer.figures
        self.figures.fetch_seconds += fetch
        self.figures.decode_seconds += decode
        self.figures.stored_bytes += stored
        if answer.fatal is not None:
            raise error_from_body(answer.fatal)
        return self._opened(places, answer)

    def _places(self, wanted: Sequence[Wanted]) -> list[Place] | None:
        """Room for all of them, or None."""
        assert self._arena is not None  # noqa: S101 - there is one before there is an input
        places: list[Place] = []
        for chunk_id, length in wanted:
            at = self._arena.take(length)
            if at is None:
                for place in places:
                    self._arena.give_back(place.at)
                return None
            places.append(Place(chunk_id, length, at))
        return places

    async def _ask(self, places: list[Place]) -> Answer | None:
        """None when the helper has ended. *Cancellation*: the places stay taken, since the helper may write there."""
        number = self._number = self._number + 1
        asked = self._asked[number] = _Asked()
        try:
            async with self._sending:
                if self._input is not None:
                    await self._input.send_all(frame(Request(number, places)))
        except _GONE:
            self._input = None
        await asked.done.wait()
        return asked.answer

    def _opened(self, places: Sequence[Place], answer: Answer) -> list[Opened]:
        assert self._arena is not None  # noqa: S101 - the places are in it
        opened: list[Opened] = []
        for at, place in enumerate(places):
            if at in answer.errors:
                self._arena.give_back(place.at)
                opened.append(error_from_body(answer.errors[at]))
            else:
                self.figures.plain_bytes += place.length
                opened.append(self._arena.view(place.at, place.length))
        self.figures.chunks += len(places)
        return opened
