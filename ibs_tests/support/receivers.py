"""Real receivers of messages: an SMTP server and an HTTP server, each in a thread of its own."""

from __future__ import annotations

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
def mail_server(**options: Any) -> Iterator[Mails]:
    mails = Mails()
    controller = _AnyPort(mails, hostname="127.0.0.1", port=0, **options)
    controller.start()
    try:
        mails.port = controller.port
        yield mails
    finally:
        controller.stop()


@dataclass
class Posts:
    """`url`, what arrived, and the status to answer with."""

    url: str = ""
    status: int = 204
    arrived: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    refused: int = 0


@contextmanager
def http_receiver() -> Iterator[Posts]:
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
    posts.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield posts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
