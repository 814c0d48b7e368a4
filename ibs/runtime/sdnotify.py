"""Tells systemd how the start and the stop go (sd_notify(3)): one datagram on the socket it names.

Used by `app` and by the mirrors of roles, which import little else: nothing but the standard library here. Does nothing
where there is no such socket; never fails the server, because the service manager has its own timeouts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from ibs.ports.clock import Clock

STATUS_SECONDS: Final = 10.0
"""How often the line of `systemctl status` is looked at again."""


class Notifier:
    """`address` is the path of a datagram socket, `@name` for an abstract one, "" for nobody.

    `watchdog_seconds`: within this time systemd wants to hear from the process, else it restarts it; 0: it does not.
    """

    def __init__(self, address: str, *, watchdog_seconds: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """By NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID."""
        micros, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        mine = micros.isascii() and micros.isdigit() and pid in ("", str(os.getpid()))
        return cls(environment.get("NOTIFY_SOCKET", ""), watchdog_seconds=int(micros) / 1e6 if mine else 0.0)

    @property
    def heard(self) -> bool:
        """Whether there is somebody to tell."""
        return bool(self._address)

    def ready(self, status: str) -> bool:
        """The server answers. Returns whether somebody was told."""
        return self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(f"STATUS={text}")

    def alive(self) -> bool:
        """The process still does its duty: feeds the watchdog."""
        return self._send("WATCHDOG=1")

    def stopping(self) -> bool:
        """The orderly stop has begun."""
        return self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, text: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as to:
                to.sendto(text.encode(), self._address)
        except OSError:
            return False
        return True


async def keep_telling(notifier: Notifier, clock: Clock, status: Callable[[], str]) -> None:
    """Feed the watchdog from the event loop, and keep the status line true, until cancelled.

    A loop that hangs feeds nobody, and systemd restarts the server.
    """
    if not notifier.heard:
        return
    period = min(STATUS_SECONDS, notifier.watchdog_seconds / 3) if notifier.watchdog_seconds else STATUS_SECONDS
    told = ""
    while True:
        if notifier.watchdog_seconds:
            notifier.alive()
        text = status()
        if text != told and notifier.status(text):
            told = text
        await clock.sleep(period)
