"""A stand-in for the HTTP client in command tests: canned answers, and a record of what was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self

import pytest
import trio
from typer.testing import CliRunner, Result

from ibs.cli import common
from ibs.errors import NotFoundError


class FakeApi:
    """Answers by (method, path), or by calling what is there; anything else is not found. Errors are raised."""

    host, port, fingerprint, authorization = "127.0.0.1", 1, "ab:cd", "root@ibs!local:secret"

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.asked: list[tuple[str, str, Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_rest: object) -> None:
        await trio.lowlevel.checkpoint()

    def _answer(self, method: str, path: str, sent: Any) -> Any:
        self.asked.append((method, path, sent))
        if (method, path) not in self.answers:
            raise NotFoundError(f"no such path {path}", hint="none")
        answer = self.answers[method, path]
        answer = answer() if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def get(self, path: str, kind: Any, *, params: Any = None) -> Any:
        await trio.lowlevel.checkpoint()
        return self._answer("GET", path, params)

    async def post(self, path: str, kind: Any, body: Any = None, *, params: Any = None, repeat: bool = False) -> Any:
        await trio.lowlevel.checkpoint()
        return self._answer("POST", path, params if body is None and params else body)

    async def delete(self, path: str, *, params: Any = None) -> None:
        await trio.lowlevel.checkpoint()
        self._answer("DELETE", path, params)

    async def lines(self, path: str, kind: Any, *, params: Any = None) -> AsyncIterator[Any]:
        for line in self._answer("LINES", path, params):
            await trio.lowlevel.checkpoint()
            if isinstance(line, Exception):
                raise line
            yield line


def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> FakeApi:
    """Make every command of both programs talk to the returned fake, as a server on this machine."""
    api = FakeApi()
    (tmp_path / "server.json").write_text('{"address": "127.0.0.1:1", "fingerprint": "ab:cd"}')
    (tmp_path / "root.token").write_text("root@ibs!local:secret\n")
    monkeypatch.setenv("IBS_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("IBS_REPOSITORY", "root@ibs!local@127.0.0.1:1:main")
    monkeypatch.setenv("IBS_SECRET", "secret")
    monkeypatch.setenv("IBS_FINGERPRINT", "ab:cd")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(common, "connect", lambda _credentials: api)
    return api


def invoke(root: Any, *arguments: str, stdin: str = "") -> Result:
    """Run a command line in this process."""
    return CliRunner().invoke(root, list(arguments), input=stdin)
