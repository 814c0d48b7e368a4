"""The threat model's claims are tested: every test that the page names exists, and every promise names one."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PAGE = (TESTS.parent / "contrib" / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([a-z0-9_/]+\.py)::(\w+)`", PAGE)


def test_every_named_test_exists() -> None:
    missing = [
        f"{file}::{name}"
        for file, name in NAMED
        if not (TESTS / file).is_file()
        or not re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert missing == []
    assert len(NAMED) > 30


def test_every_promise_names_a_test() -> None:
    """What somebody cannot do is a promise: each paragraph or point that begins with it is followed by a test."""
    for section in PAGE.split("\n## ")[2:-1]:
        promises = section.partition("Cannot")[2]
        if promises:
            assert ".py::" in promises, section.partition("\n")[0]
