"""Which entries patterns take."""

from __future__ import annotations

import pytest

from ibs.errors import UsageError
from ibs.restore.tree.select import Selection

PATHS = [b"", b"etc", b"etc/ssh", b"etc/ssh/sshd_config", b"etc/a.conf", b"etc/x/b.conf", b"var/c.conf", b"\xff"]


def taken(*patterns: str) -> list[bytes]:
    selection = Selection(patterns)
    return [path for path in PATHS if selection(path)]


def test_without_patterns_everything() -> None:
    assert taken() == PATHS
    assert Selection().everything
    assert Selection().note(b"x")
    assert Selection().unmatched() == []


@pytest.mark.parametrize("pattern", ["etc/ssh", "/etc/ssh", "etc/ssh/", "/etc/ssh/"])
def test_a_folder_takes_all_below_it(pattern: str) -> None:
    assert taken(pattern) == [b"etc/ssh", b"etc/ssh/sshd_config"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("etc/*.conf", [b"etc/a.conf"]),
        ("**/*.conf", [b"etc/a.conf", b"etc/x/b.conf", b"var/c.conf"]),
        ("etc/**/*.conf", [b"etc/a.conf", b"etc/x/b.conf"]),
        ("etc/?.conf", [b"etc/a.conf"]),
        ("*/[bc].conf", [b"var/c.conf"]),
        ("a.conf", []),
        ("et", []),
        ("!etc", []),
        ("#etc", []),
        ("etc/ssh/**", [b"etc/ssh/sshd_config"]),
    ],
)
def test_globs_are_relative_to_the_root(pattern: str, expected: list[bytes]) -> None:
    assert taken(pattern) == expected


def test_names_that_are_not_utf_8() -> None:
    assert taken("\udcff") == [b"\xff"]
    assert taken("?") == [b"\xff"]


@pytest.mark.parametrize("pattern", ["", "/", "..", "a/../b", "./a", "a\0b"])
def test_patterns_that_cannot_be_meant_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError):
        Selection([pattern])


def test_patterns_that_matched_nothing_are_known() -> None:
    selection = Selection(["etc/ssh", "nothing", "*.none"])
    for path in PATHS:
        selection.note(path)
    assert selection.unmatched() == ["nothing", "*.none"]


@pytest.mark.parametrize(
    ("patterns", "folder"),
    [
        (["etc/ssh/sshd_config"], b"etc/ssh/sshd_config"),
        (["etc/ssh", "etc/x/*.conf"], b"etc"),
        (["etc/ssh", "etc/ssh/sshd_config"], b"etc/ssh"),
        (["etc/*"], b"etc"),
        (["**/x"], b""),
        (["etc", "var"], b""),
        (["etc/a b /x"], b"etc"),
        ([], b""),
    ],
)
def test_the_common_folder_narrows_what_is_read(patterns: list[str], folder: bytes) -> None:
    assert Selection(patterns).common_folder() == folder
