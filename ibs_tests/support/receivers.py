"""Real receivers of messages: an SMTP server and an HTTP server, each in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class Mails:
    """`port`, what arrived, and what to say to the next recipient (None: welcome)."""

    port: int = 0
    arrived: list[tuple[list[str], bytes]] = field(default_factory=list)
    refuse: str | None = None

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if self.refuse:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.arrived.append((envelope.rcpt_tos, envelope.content))
        return "250 OK"


class _AnyPort(Controller):
    """Listens on a free port; the library greets the port it was given, which is 0 here."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def mail_server(mails: Mails | None = None, **options: Any) -> Iterator[Mails]:
    mails = mails or Mails()
    controller = _AnyPort(mails, hostname="127.0.0.1", port=0, **options)
    controller.start()
    try:
        mails.port = controller.port
        yield mails
    finally:
        controller.stop()


@contextmanager
def dripping(said: bytes, *, greets: bool = True) -> Iterator[int]:
    """The port of a server that says `said` byte by byte, again and again, and never comes to an end.

    Without `greets` it hears something first.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            line, _ = listener.accept()
            with line:
                if not greets:
                    line.recv(1 << 16)
                while True:
                    for byte in said:
                        line.send(bytes([byte]))
                        if over.wait(0.02):
                            return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def dying_in_data() -> Iterator[int]:
    """The port of a mail server that takes everything up to DATA, and dies in the middle of the message."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            line, _ = listener.accept()
            with line, line.makefile("rb") as heard:
                line.sendall(b"220 here\r\n")
                for command in heard:
                    if command.upper().startswith(b"DATA"):
                        line.sendall(b"354 go on\r\n")
                        heard.readline()
                        return
                    line.sendall(b"250 fine\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join()


@dataclass
class Posts:
    """`url`, what arrived, and the status to answer with."""

    url: str = ""
    status: int = 204
    arrived: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    refused: int = 0


@contextmanager
def http_receiver(tls: ssl.SSLContext | None = None) -> Iterator[Posts]:
    posts = Posts()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            said = b"the receiver is ill" if posts.status >= 500 else b""
            if posts.status < 300:
                posts.arrived.append((dict(self.headers), body))
            else:
                posts.refused += 1
            self.send_response(posts.status)
            if posts.status == 302:
                self.send_header("Location", posts.url)
            if posts.status != 204:
                self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    posts.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield posts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
