"""Lines that a source has to say about what it met: warnings and information, one line each.

Importable by everyone above `core`. A note never holds file content; paths are shown so that every byte
string has exactly one printable form and no control character reaches a terminal or a log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Level = Literal["info", "warning", "error"]
SHOWN_CHARS_MAX = 4096


class Note(NamedTuple):
    """One line for the task log. Every `warning` makes the backup end WARNING.

    `subject` is the path or pattern it is about; `text` never names one, so that it alone may be told to a server
    that must not learn the names in an encrypted archive.
    """

    level: Level
    text: str
    subject: str = ""

    @property
    def line(self) -> str:
        """The whole line, for people who may know the subject."""
        return f"{self.subject}: {self.text}" if self.subject else self.text


Noter = Callable[[Note], None]


def shown(path: bytes) -> str:
    """`path` for people: UTF-8 where it is, `\\xNN` for other bytes and for control characters; bounded."""
    text = path.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}…"


def reason(error: OSError) -> str:
    """The system's words for an error, without the path that Python adds."""
    return error.strerror or error.__class__.__name__
