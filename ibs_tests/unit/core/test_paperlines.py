"""The line code: every single mistake is found and righted, in every line; two mistakes are never called right."""

from __future__ import annotations

import itertools

import pytest

from ibs.core import limits_paper, paperlines
from ibs.core.paperlines import HEX, Mistake

CONTENT = bytes.fromhex("3f1c2209aa5577ee")
WORD = paperlines.encode(3, CONTENT)


def single_mistakes(word: str) -> list[tuple[str, Mistake]]:
    """Every word one mistake of substitution or transposition away."""
    found = [
        (word[:place] + digit + word[place + 1 :], Mistake.OTHER)
        for place, digit in itertools.product(range(len(word)), HEX)
        if digit != word[place]
    ]
    found += [
        (word[:place] + word[place + 1] + word[place] + word[place + 2 :], Mistake.SWAPPED)
        for place in range(len(word) - 1)
        if word[place] != word[place + 1]
    ]
    return found


def test_a_word_and_back() -> None:
    assert WORD[:-4] == "033f1c2209aa5577ee"
    assert paperlines.is_right(WORD)
    assert (paperlines.number_of(WORD), paperlines.content_of(WORD)) == (3, CONTENT)
    assert paperlines.printed(WORD) == f"03   3f1c 2209 aa55 77ee   {WORD[-4:]}"
    assert paperlines.grouped("0123456789ab") == "0123 4567 89ab"
    for wrong in ("", WORD[:-1], WORD + "0", WORD.upper(), "0x" + WORD[2:], "00" + WORD[2:], "1f" + WORD[2:]):
        assert not paperlines.is_right(wrong)
    for number, content in ((0, CONTENT), (100, CONTENT), (1, CONTENT[:-1])):
        with pytest.raises(ValueError, match="no line"):
            paperlines.encode(number, content)


def test_no_two_single_mistakes_look_alike() -> None:
    """The code is linear: that all syndromes differ for one word means that they do for every word."""
    zero = "0" * limits_paper.LINE_CHARS
    crc = paperlines._crc

    def syndrome(word: str) -> int:
        return crc(word[:-4]) ^ crc(zero[:-4]) ^ int(word[-4:], 16)

    patterns = [zero[:place] + digit + zero[place + 1 :] for place in range(len(zero)) for digit in HEX[1:]]
    patterns += [
        zero[:place] + digit + digit + zero[place + 2 :] for place in range(len(zero) - 1) for digit in HEX[1:]
    ]
    syndromes = [syndrome(pattern) for pattern in patterns]
    assert len(patterns) == 645
    assert 0 not in syndromes
    assert len(set(syndromes)) == len(patterns)


def test_every_single_mistake_is_found_and_has_one_suggestion() -> None:
    for typed, mistake in single_mistakes(WORD):
        assert not paperlines.is_right(typed)
        found = paperlines.suggestions(typed)
        assert [suggestion.word for suggestion in found] == [WORD], typed
        assert found[0].mistake is mistake


def test_a_character_missing_or_too_many() -> None:
    for place in range(len(WORD)):
        found = paperlines.suggestions(WORD[:place] + WORD[place + 1 :])
        assert WORD in [suggestion.word for suggestion in found]
        assert {suggestion.mistake for suggestion in found} == {Mistake.MISSING}
    for place, digit in itertools.product(range(len(WORD) + 1), "0a"):
        found = paperlines.suggestions(WORD[:place] + digit + WORD[place:])
        assert WORD in [suggestion.word for suggestion in found]
        assert {suggestion.mistake for suggestion in found} == {Mistake.EXTRA}


def test_what_is_no_hex_digit_is_worked_out() -> None:
    for one, two in itertools.combinations(range(len(WORD)), 2):
        typed = "".join("?" if place in (one, two) else digit for place, digit in enumerate(WORD))
        found = paperlines.suggestions(typed)
        assert WORD in [suggestion.word for suggestion in found]
    (only,) = paperlines.suggestions(WORD.replace("0", "o", 1))
    assert (only.word, only.right, only.typed, only.places) == (WORD, "0", "o", (0,))
    assert paperlines.suggestions("???" + WORD[3:]) == []
    assert paperlines.suggestions("") == []


def test_nothing_of_a_line_is_in_a_repr() -> None:
    (only,) = paperlines.suggestions("04" + WORD[2:])
    assert WORD not in repr(only)
    assert WORD[2:6] not in repr(only)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (1, "character 2 of its number"),
        (2, "character 1 of group 1"),
        (17, "character 4 of group 4"),
        (21, "character 4 of its checksum"),
    ],
)
def test_a_place_is_named_as_it_stands_on_the_paper(place: int, name: str) -> None:
    assert paperlines.place_name(place) == name
