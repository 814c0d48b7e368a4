"""Typed lines: read however they are spaced; each wrong, missing or repeated one is named, and righted if possible."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ibs.core import limits_paper, paperkey, paperlines, papertyped
from ibs.core.paperkey import PaperKey
from ibs.errors import FormatError

CONTENT = paperkey.encode(PaperKey("encrypt", bytes.fromhex("3f1c2209aa5577ee" * 2) + bytes(range(16))))
LINES = paperkey.lines(CONTENT)
TEXT = "\n".join(LINES)


def refused(*lines: str) -> tuple[str, str]:
    with pytest.raises(FormatError) as caught:
        papertyped.read("\n".join(lines))
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    "changed",
    [
        lambda text: text,
        lambda text: text.upper() + "\n\n",
        lambda text: text.replace(" ", ""),
        lambda text: text.replace("   ", "-").replace(" ", "."),
        lambda text: "\r\n".join(f"  {line.lstrip('0')}" for line in text.splitlines()),
        lambda text: text.replace("   ", ": ", 5),
        lambda text: "\n".join(reversed(text.splitlines())),
        lambda text: f"My key:\n\n{text}\nFingerprint 3f:1c:22:09:aa:55\nPage 1 of 1\n",
        lambda text: f"99 beer beer beer beer beer\n{paperkey.BEGIN}\n{text}\n{paperkey.END}\n{text}",
    ],
)
def test_however_it_is_typed(changed: Callable[[str], str]) -> None:
    assert papertyped.read(changed(TEXT)) == CONTENT


def test_a_wrong_character_is_named_and_the_right_one_suggested() -> None:
    wrong = LINES[2][:10] + "8" + LINES[2][11:]
    assert LINES[2][10] == "0"
    message, hint = refused(*LINES[:2], wrong, *LINES[3:])
    assert message == "the paper key was not read: line 03: character 1 of group 2 is probably 0, not 8"
    assert "the whole checksum holds" in hint
    assert "77ee 3f1c" in LINES[1]
    message, _ = refused(LINES[0], LINES[1].replace("3f1c", "31fc"), *LINES[2:])
    assert message.endswith("line 02: character 2 of group 2 and the next one are probably swapped")
    message, _ = refused(LINES[0], LINES[1].replace("3f1c", "3flc"), *LINES[2:])
    assert message.endswith("line 02: character 3 of group 2 is probably 1, not l")
    message, _ = refused(LINES[0], LINES[1].replace("3f1c", "3fc"), *LINES[2:])
    assert "line 02: a character is missing, probably 1 as character 3 of group 2" in message
    message, _ = refused(LINES[0], LINES[1].replace("3f1c", "3f11c"), *LINES[2:])
    assert "line 02: there is one character too many, probably 1 at character 3 of group 2" in message


def test_several_lines_are_named_at_once() -> None:
    message, hint = refused(LINES[0].replace("01 ", "0l "), *LINES[2:4], LINES[4] + "77777", LINES[3])
    assert "line typed as number 1: character 2 of its number is probably 1, not l" in message
    assert "lines 02, 05 are missing" in message
    assert "line 04 is there twice" in message
    assert "character by character" in hint


def test_too_many_mistakes_are_not_guessed() -> None:
    line = LINES[1]
    for digits in ("0000 0000 0000 0000", "ffff ffff ffff 1111", "1234 5678 9abc def0"):
        message, _ = refused(LINES[0], f"02   {digits}   {line[-4:]}", *LINES[2:])
        assert "line 02" in message
    message, _ = refused(LINES[0], line[:-6], *LINES[2:])
    assert "line 02 has 17 characters" in message or "line 02 has 16 characters" in message


def test_a_line_under_another_number_is_told_its_own() -> None:
    message, _ = refused(LINES[0], LINES[1], LINES[1].replace("02 ", "03 ", 1), *LINES[3:])
    assert "line 03: character 2 of its number is probably 2, not 3" in message
    message, _ = refused(*LINES[:4], LINES[4], paperlines.printed(paperlines.encode(6, bytes(8))))
    assert message.endswith("line 06 is none of this paper, which has 5 lines")
    message, _ = refused(*LINES[:4], LINES[4][5:])
    assert "the line typed as number 5 does not begin with its number" in message
    assert "line 05 is missing" in message


def test_lines_of_two_papers_make_no_key() -> None:
    other = paperkey.lines(paperkey.encode(PaperKey("encrypt", bytes(32))))
    message, hint = refused(*LINES[:2], other[2], *LINES[3:])
    assert "whole checksum" in message
    assert "lines of two papers are mixed" in hint


def test_what_is_no_paper_key_at_all() -> None:
    for text in ("", "\n\n", "hello world", "Lorem ipsum dolor sit amet, consectetur adipiscing elit"):
        message, _ = refused(text)
        assert "no line of a paper key" in message
    with pytest.raises(FormatError, match="longer than any"):
        papertyped.read("0" * (limits_paper.TYPED_BYTES_MAX + 1))


def test_a_refusal_repeats_no_line() -> None:
    message, hint = refused(*LINES[:2], LINES[2][:10] + "8" + LINES[2][11:], *LINES[3:])
    for line in LINES:
        for group in line.split()[1:-1]:
            assert group not in message + hint
