"""Patterns: gitignore's meaning, which list wins, and which patterns never matched."""

from __future__ import annotations

import os

import pytest

from ibs.errors import UsageError
from ibs.sources.tree.exclude import RuleList, Rules


@pytest.mark.parametrize(
    ("pattern", "out", "kept"),
    [
        ("*.log", ["a.log", "b/c.log", "d.log/"], ["a.logs", "log"]),
        ("/proc", ["proc", "proc/"], ["a/proc"]),
        ("cache/", ["cache/", "a/cache/"], ["cache", "a/cache"]),
        ("a/**/b", ["a/b", "a/x/y/b"], ["b", "x/a/b"]),
        ("[0-9]?", ["1a"], ["12a", "ab"]),
        (r"\#hash", ["#hash"], ["hash"]),
        ("wíth spâce", ["wíth spâce"], ["with space"]),
    ],
)
def test_patterns_mean_what_they_mean_in_git(pattern: str, out: list[str], kept: list[str]) -> None:
    rules = Rules((RuleList([pattern]),))
    for path in out + kept:
        assert rules.excluded(os.fsencode(path.rstrip("/")), folder=path.endswith("/")) is (path in out), path


def test_the_last_match_of_a_list_decides() -> None:
    rules = Rules((RuleList(["*.txt", "!keep.txt", "# comment", ""]),))
    assert rules.excluded(b"a.txt", folder=False)
    assert not rules.excluded(b"keep.txt", folder=False)


def test_deeper_files_win_over_shallower_ones_and_the_command_line_over_all() -> None:
    command = RuleList(["never", "!always"])
    top = RuleList(["*.tmp", "always", "x"], base=b"", origin=".ibsexclude")
    deep = RuleList(["!x", "/own"], base=b"a/", origin="a/.ibsexclude")
    rules = Rules((command,)).with_folder(top).with_folder(deep)
    assert rules.excluded(b"a/never", folder=False)
    assert not rules.excluded(b"a/always", folder=False)
    assert not rules.excluded(b"a/x", folder=False)
    assert rules.excluded(b"a/own", folder=False)
    assert not rules.excluded(b"a/b/own", folder=False)
    assert rules.excluded(b"a/b.tmp", folder=False)


def test_names_that_are_not_utf8_and_newlines() -> None:
    rules = Rules((RuleList(["*.bak"]),))
    assert rules.excluded(b"\xff\xfe.bak", folder=False)
    assert rules.excluded(b"new\nline.bak", folder=False)


def test_patterns_that_never_matched_are_known() -> None:
    rules = RuleList(["*.log", "a.log", "none", "!kept"])
    for path in ("a.log", "b", "c"):
        rules.verdict(path)
    assert list(rules.unused()) == ["none", "!kept"]
    assert bool(rules)
    assert not RuleList(["# nothing"])


def test_invalid_patterns() -> None:
    with pytest.raises(UsageError, match=r"--exclude '\\\\' is not a valid pattern"):
        RuleList(["fine", "\\"])
    heard: list[str] = []
    rules = RuleList(["fine", "\\", "a["], origin="x/.ibsexclude", invalid=heard.append)
    assert len(heard) == 2
    assert all(line.startswith("x/.ibsexclude") for line in heard)
    assert rules.verdict("fine") is True
