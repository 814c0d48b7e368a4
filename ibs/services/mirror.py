"""Shows each role to a process of its own, so that the journal and `systemctl status` know it by its own unit.

Run by `app`. A mirror (`ibs.cli.mirror`, one light process a role) connects to a socket in the state folder, which only
the server's own user may open. It gets the role's state, every change of it, and the lines that the role logs. When a
mirror that took its leave (its unit was stopped) is followed by another one, the role is restarted: that is what
`systemctl restart ironcore-backup-ROLE` means. A role that was given up is restarted by any new mirror.

One JSON object a line. From the mirror: `{"role": …}`, then perhaps `{"leaving": true}`. To it:
`{"state": ServiceView}`, `{"line": {…}}`, `{"lost": n}` (lines it was too slow for), `{"bye": reason}`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from ibs import log
from ibs.core import limits
from ibs.core.events import Event
from ibs.errors import IbsError
from ibs.runtime.bus import Bus
from ibs.runtime.supervisor import State, Supervisor, by_role
from ibs.wire.system import ServiceView

SOCKET: Final = "mirror.sock"
_log = log.get_logger("api")


class _Hello(msgspec.Struct, frozen=True):
    role: str


class _Word(msgspec.Struct, frozen=True):
    leaving: bool = False


class _Watcher:
    """One mirror's bounded queue."""

    def __init__(self) -> None:
        self._send, self.receive = trio.open_memory_channel[bytes](limits.MIRROR_LINES_WAITING)
        self._lost = 0

    def offer(self, message: Mapping[str, Any]) -> None:
        """Queue it; what does not fit is counted, and told as soon as something fits again."""
        try:
            if self._lost:
                self._send.send_nowait(_encoded({"lost": self._lost}))
                self._lost = 0
            self._send.send_nowait(_encoded(message))
        except trio.WouldBlock:
            self._lost += 1


class Mirrors:
    """`view` gives a role as the API shows it."""

    def __init__(self, supervisor: Supervisor, bus: Bus[Event], view: Callable[[str], ServiceView]) -> None:
        self._supervisor = supervisor
        self._bus = bus
        self._view = view
        self._roles = frozenset(state.role for state in supervisor.states())
        self._recent: dict[str, deque[Mapping[str, Any]]] = defaultdict(lambda: deque(maxlen=limits.MIRROR_LINES_KEPT))
        self._seen: set[str] = set()
        self._left: set[str] = set()
        self._watchers: dict[str, set[_Watcher]] = defaultdict(set)
        self._token: trio.lowlevel.TrioToken | None = None
        self._connections = 0

    async def run(self, folder: Path) -> None:
        """Serve the socket in `folder` until cancelled. A socket that cannot be made is told in the log, once."""
        self._token = trio.lowlevel.current_trio_token()
        events = self._bus.subscribe("mirrors")
        try:
            listener = trio.SocketListener(_listening(folder))
        except OSError as error:
            _log.warning("the units of the roles cannot be served", error=str(error))
            return
        try:
            with log.tap(self._note_line), events:
                async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the mirrors' connections
                    nursery.start_soon(trio.serve_listeners, self._serve, [listener])
                    async for event in events:
                        if event.kind == "service.state":
                            self._tell_state(str(event.fields.get("role", "")))
        finally:
            with contextlib.suppress(OSError):
                (folder / SOCKET).unlink()

    # --- what happens to roles ---

    def _note_line(self, line: Mapping[str, Any]) -> None:
        """In whichever thread logged."""
        role = str(line["role"])
        if role not in self._roles:
            return
        self._recent[role].append(line)
        if self._watchers.get(role) and self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._tell, role, {"line": line})

    def _tell_state(self, role: str) -> None:
        if role in self._roles:
            self._tell(role, {"state": self._view(role)})

    def _tell(self, role: str, message: Mapping[str, Any]) -> None:
        for watcher in tuple(self._watchers[role]):
            watcher.offer(message)

    # --- one mirror ---

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self._connections >= limits.MIRRORS_MAX:
            await stream.aclose()
            return
        self._connections += 1
        try:
            async with stream:
                await self._talk(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, msgspec.MsgspecError, UnicodeDecodeError):
            pass  # it went away, or is none of ours
        finally:
            self._connections -= 1

    async def _talk(self, stream: trio.SocketStream) -> None:
        words, first = _Lines(stream), b""
        with trio.move_on_after(limits.MIRROR_HELLO_SECONDS_MAX):
            first = await words.next()
        if not first:
            return
        role = msgspec.json.decode(first, type=_Hello).role
        if role not in self._roles:
            await stream.send_all(_encoded({"bye": f"there is no service {role[:64]!r}"}))
            return
        with self._watching(role) as watcher:
            self._restart_if_meant(role)
            watcher.offer({"state": self._view(role)})
            await self._follow(stream, words, role, watcher)

    @contextlib.contextmanager
    def _watching(self, role: str) -> Iterator[_Watcher]:
        watcher = _Watcher()
        if role not in self._seen:  # what the role said before anybody listened belongs to the first mirror
            self._seen.add(role)
            for line in tuple(self._recent[role]):
                watcher.offer({"line": line})
        self._watchers[role].add(watcher)
        try:
            yield watcher
        finally:
            self._watchers[role].discard(watcher)

    def _restart_if_meant(self, role: str) -> None:
        given_up = by_role(self._supervisor.states())[role].state is State.FAILED
        if role not in self._left and not given_up:
            return
        self._left.discard(role)
        with contextlib.suppress(IbsError):  # the server stops
            self._supervisor.restart(role)
            _log.info("a service was restarted by its unit", service=role)

    async def _follow(self, stream: trio.SocketStream, words: _Lines, role: str, watcher: _Watcher) -> None:
        gone = False
        async with trio.open_nursery() as nursery:  # noqa: TID251 - to listen while talking

            async def listen() -> None:
                nonlocal gone
                while line := await words.next():
                    if msgspec.json.decode(line, type=_Word).leaving:
                        self._left.add(role)
                gone = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            try:
                async for message in watcher.receive:
                    await stream.send_all(message)
            except trio.Cancelled:
                if not gone:  # it is the server that ends
                    with trio.move_on_after(limits.MIRROR_BYE_SECONDS_MAX, shield=True):
                        await _say_goodbye(stream, watcher)
                raise


async def _say_goodbye(stream: trio.SocketStream, watcher: _Watcher) -> None:
    noted = trio.Event()
    trio.lowlevel.current_trio_token().run_sync_soon(noted.set)
    await noted.wait()  # lines that were logged before now are in the queue: they came by the same way
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        try:
            while True:
                await stream.send_all(watcher.receive.receive_nowait())
        except trio.WouldBlock:
            await stream.send_all(_encoded({"bye": "the server stops"}))


class _Lines:
    """Short lines from a stream. A peer that sends a long one is taken for gone."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._held = b""

    async def next(self) -> bytes:
        """The next line; empty at the end."""
        while b"\n" not in self._held:
            piece = await self._stream.receive_some(limits.MIRROR_WORD_BYTES_MAX)
            if not piece or len(self._held) > limits.MIRROR_WORD_BYTES_MAX:
                return b""
            self._held += piece
        line, _, self._held = self._held.partition(b"\n")
        return line or b" "


def _encoded(message: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def _listening(folder: Path) -> trio.socket.SocketType:
    """A socket in `folder`, for its owner only. By the folder's descriptor: a socket's path may have 107 bytes."""
    path = folder / SOCKET
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):  # of a server that was killed: whoever holds the state folder is alone
            path.unlink()
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The folder is 0700, so nobody else gets here between the two calls.
        plain.bind(f"/proc/self/fd/{descriptor}/{SOCKET}")
        path.chmod(0o600)
        plain.listen(16)
        return trio.socket.from_stdlib_socket(plain)
    except OSError:
        plain.close()
        raise
    finally:
        os.close(descriptor)
