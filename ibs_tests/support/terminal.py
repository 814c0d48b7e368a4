"""A program on a terminal of its own, and somebody who types there."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

SECONDS_MAX = 60


@dataclass
class Terminal:
    """What stands on it, and the keyboard."""

    process: subprocess.Popen[bytes]
    descriptor: int
    shown: str = ""
    _seen: int = field(default=0, repr=False)

    def wait_for(self, words: str) -> str:
        """Read until `words` come; what came before them since the last wait."""
        while (place := self.shown.find(words, self._seen)) < 0:
            if not self._read():
                raise AssertionError(f"{words!r} never came: {self.shown[self._seen :]!r}")
        before, self._seen = self.shown[self._seen : place], place + len(words)
        return before

    def type(self, text: str) -> None:
        os.write(self.descriptor, f"{text}\n".encode())

    def end(self) -> int:
        """Read to the end; the exit status."""
        while self._read():
            pass
        return self.process.wait(SECONDS_MAX)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.descriptor], [], [], SECONDS_MAX)
        try:
            data = os.read(self.descriptor, 4096) if ready else b""
        except OSError:  # the other side was closed
            data = b""
        self.shown += data.decode("utf-8", "replace")
        return bool(data)


@contextlib.contextmanager
def terminal(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Start a program on a new terminal."""
    mine, its = pty.openpty()
    process = subprocess.Popen(
        command, env=dict(environment), stdin=its, stdout=its, stderr=its, start_new_session=True
    )
    os.close(its)
    try:
        yield Terminal(process, mine)
    finally:
        process.kill()
        process.wait()
        os.close(mine)
