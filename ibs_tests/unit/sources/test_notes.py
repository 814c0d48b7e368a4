"""Lines about what a source met: printable, bounded, and without names where names are private."""

from __future__ import annotations

import errno

import pytest

from ibs.sources.notes import SHOWN_CHARS_MAX, Note, reason, shown


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"etc/passwd", "etc/passwd"),
        ("ünï".encode(), "ünï"),
        (b"latin-\xe9", "latin-\\xe9"),
        (b"new\nline\x1b[31m", "new\\nline\\x1b[31m"),
        ("\u202eevil".encode(), "\\u202eevil"),
        (b"", ""),
    ],
)
def test_paths_are_shown_printable(path: bytes, text: str) -> None:
    assert shown(path) == text
    assert shown(path).isprintable()


def test_shown_paths_are_bounded() -> None:
    assert len(shown(b"a" * 100_000)) == SHOWN_CHARS_MAX + 1


def test_a_line_has_its_subject_only_when_whole() -> None:
    note = Note("warning", "changed while it was read", "etc/passwd")
    assert note.line == "etc/passwd: changed while it was read"
    assert "passwd" not in note.text
    assert Note("info", "text").line == "text"


def test_reasons_are_the_systems_words() -> None:
    assert reason(OSError(errno.EIO, "Input/output error", "path")) == "Input/output error"
    assert reason(OSError()) == "OSError"
