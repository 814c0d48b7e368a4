"""Paper keys: whatever the key, what is printed comes back; one mistake in any line is found and named rightly."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibs.core import paperkey, paperlines, papertyped
from ibs.core.paperkey import PaperKey
from ibs.errors import FormatError

ROOTS = st.binary(min_size=32, max_size=32)
MODES: st.SearchStrategy[Literal["encrypt", "sign-only"]] = st.sampled_from(("encrypt", "sign-only"))


@given(ROOTS, MODES)
def test_lines_and_qr_code_are_the_same_key(root: bytes, mode: Literal["encrypt", "sign-only"]) -> None:
    content = paperkey.encode(PaperKey(mode, root))
    assert papertyped.read("\n".join(paperkey.lines(content))) == content
    assert paperkey.parse_qr(paperkey.qr_text(content)) == content
    assert paperkey.decode(content) == PaperKey(mode, root)


@given(ROOTS, st.integers(0, 4), st.integers(0, 21), st.sampled_from("0123456789abcdefolsz?"))
def test_one_wrong_character_is_found_and_righted(root: bytes, row: int, place: int, digit: str) -> None:
    content = paperkey.encode(PaperKey("encrypt", root))
    words = [line.replace(" ", "") for line in paperkey.lines(content)]
    right = words[row]
    words[row] = right[:place] + digit + right[place + 1 :]
    if words[row] == right:
        return
    lines = papertyped.parse("\n".join(words))
    if digit == "?":  # no letter and no digit: as if it were not there
        digit = ""
    assert [line.is_right for line in lines] == [place != row for place in range(5)]
    assert right in [suggestion.word for suggestion in lines[row].suggestions]
    assert digit == "" or len(lines[row].suggestions) == 1
    with pytest.raises(FormatError) as caught:
        papertyped.read("\n".join(words))
    message = caught.value.message
    assert f"line {right[:2]}" in message or f"number {row + 1}" in message or place < 2


@given(ROOTS, st.integers(0, 4), st.integers(0, 20))
def test_two_swapped_characters_are_found_and_righted(root: bytes, row: int, place: int) -> None:
    words = [line.replace(" ", "") for line in paperkey.lines(paperkey.encode(PaperKey("encrypt", root)))]
    right = words[row]
    words[row] = right[:place] + right[place + 1] + right[place] + right[place + 2 :]
    if words[row] != right:
        (only,) = papertyped.parse("\n".join(words))[row].suggestions
        assert only.word == right


@given(st.text(max_size=400) | st.from_regex(r"([0-9]{1,2}[ :][0-9a-fOl ]{16,28}\n){1,6}"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        content = papertyped.read(text)
    except FormatError:
        return
    assert paperkey.holds(content)


@given(st.text(alphabet="0123456789abcdefxyz\u00df\u0130 -", max_size=30))
def test_suggestions_are_right_words(typed: str) -> None:
    for suggestion in paperlines.suggestions(typed):
        assert paperlines.is_right(suggestion.word)
        assert papertyped.describe(suggestion)
