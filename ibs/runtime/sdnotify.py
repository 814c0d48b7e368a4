"""Tells systemd how the start and the stop go (sd_notify(3)): one datagram on the socket it names. Used by `app` only.

Does nothing where there is no such socket; never fails the server, because the service manager has its own timeouts.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Self


class Notifier:
    """`address` is the path of a datagram socket, `@name` for an abstract one, "" for nobody."""

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """By NOTIFY_SOCKET."""
        return cls(environment.get("NOTIFY_SOCKET", ""))

    def ready(self, status: str) -> bool:
        """The server answers. Returns whether somebody was told."""
        return self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(f"STATUS={text}")

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
