"""The code of one line of a paper key: 22 hex digits, and how a mistyped one is righted.

Pure; used by `core.paperkey` and `core.papertyped`. A code word is number (2 decimal digits), content (16 hex digits)
and checksum (4): the CRC-16/CCITT of the nine bytes before it, begun with FFFF. Over words of this length no two single
mistakes (one digit for another, or two neighbours swapped) have the same syndrome, and none has that of no mistake: so
every single mistake is found, and exactly one word is a single mistake away. The unit tests try all 645 of them.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product
from typing import Final

from ibs.core import limits_paper
from ibs.core.limits_paper import GROUP_CHARS, LINE_BYTES, LINE_CHARS, NUMBER_CHARS

HEX: Final = "0123456789abcdef"
_START: Final = 0xFFFF
_CHECK_CHARS: Final = 4
_GROUPS: Final = LINE_BYTES * 2 // GROUP_CHARS


class Mistake(StrEnum):
    """What may have happened to one line."""

    OTHER = "another digit"
    SWAPPED = "two digits swapped"
    MISSING = "a digit missing"
    EXTRA = "a digit too many"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A word that is right, and what turned it into the typed one; `places` are those of its characters concerned."""

    word: str = field(repr=False)
    mistake: Mistake
    places: tuple[int, ...]
    typed: str = field(default="", repr=False)
    """What was typed there."""

    @property
    def right(self) -> str:
        """What belongs there."""
        return "".join(self.word[place] for place in self.places)


def encode(number: int, content: bytes) -> str:
    """The word of a line: `number` from 1 to 99, `content` of 8 bytes."""
    if not 1 <= number <= limits_paper.LINES_MAX or len(content) != LINE_BYTES:
        raise ValueError(f"a paper key has no line {number} of {len(content)} bytes")
    stated = f"{number:02d}{content.hex()}"
    return f"{stated}{_crc(stated):04x}"


def is_right(word: str) -> bool:
    """Whether a word of hex digits is a line of a paper key."""
    if len(word) != LINE_CHARS or not set(word) <= set(HEX) or not word[:NUMBER_CHARS].isdigit():
        return False
    return word[:NUMBER_CHARS] != "00" and _crc(word[:-_CHECK_CHARS]) == int(word[-_CHECK_CHARS:], 16)


def number_of(word: str) -> int:
    """The number of a right word."""
    return int(word[:NUMBER_CHARS])


def content_of(word: str) -> bytes:
    """The 8 bytes of a right word."""
    return bytes.fromhex(word[NUMBER_CHARS:-_CHECK_CHARS])


def grouped(digits: str) -> str:
    """In groups of four."""
    return " ".join(digits[start : start + GROUP_CHARS] for start in range(0, len(digits), GROUP_CHARS))


def printed(word: str) -> str:
    """As it stands on the paper."""
    content, check = word[NUMBER_CHARS:-_CHECK_CHARS], word[-_CHECK_CHARS:]
    return f"{word[:NUMBER_CHARS]}   {grouped(content)}   {check}"


def place_name(place: int) -> str:
    """Where the character at `place` of a word stands on the paper."""
    if place < NUMBER_CHARS:
        return f"character {place + 1} of its number"
    group, character = divmod(place - NUMBER_CHARS, GROUP_CHARS)
    if group < _GROUPS:
        return f"character {character + 1} of group {group + 1}"
    return f"character {character + 1} of its checksum"


def suggestions(typed: str) -> list[Suggestion]:
    """The right words that one mistake would turn into `typed` (which is not right); none when there are too many."""
    found: dict[str, Suggestion] = {}
    for suggestion in _candidates(typed):
        if is_right(suggestion.word):
            found.setdefault(suggestion.word, suggestion)
    return list(found.values()) if len(found) <= limits_paper.SUGGESTIONS_MAX else []


def _candidates(typed: str) -> Iterator[Suggestion]:
    strange = [place for place, character in enumerate(typed) if character not in HEX]
    if len(typed) == LINE_CHARS and 0 < len(strange) <= limits_paper.UNREADABLE_CHARS_MAX:
        yield from _filled(typed, strange)
    elif len(typed) == LINE_CHARS and not strange:
        yield from _substituted(typed)
    elif len(typed) == LINE_CHARS - 1 and not strange:
        for place, digit in product(range(LINE_CHARS), HEX):
            yield Suggestion(typed[:place] + digit + typed[place:], Mistake.MISSING, (place,))
    elif len(typed) == LINE_CHARS + 1 and len(strange) <= 1:
        for place in strange or range(LINE_CHARS + 1):
            word = typed[:place] + typed[place + 1 :]
            yield Suggestion(word, Mistake.EXTRA, (min(place, LINE_CHARS - 1),), typed[place])


def _filled(typed: str, strange: list[int]) -> Iterator[Suggestion]:
    """Digits for what is none."""
    for digits in product(HEX, repeat=len(strange)):
        word = list(typed)
        for place, digit in zip(strange, digits, strict=True):
            word[place] = digit
        yield Suggestion("".join(word), Mistake.OTHER, tuple(strange), "".join(typed[place] for place in strange))


def _substituted(typed: str) -> Iterator[Suggestion]:
    for place, digit in product(range(LINE_CHARS), HEX):
        if digit != typed[place]:
            yield Suggestion(typed[:place] + digit + typed[place + 1 :], Mistake.OTHER, (place,), typed[place])
    for place in range(LINE_CHARS - 1):
        one, two = typed[place], typed[place + 1]
        if one != two:
            yield Suggestion(
                typed[:place] + two + one + typed[place + 2 :], Mistake.SWAPPED, (place, place + 1), one + two
            )


def _crc(stated: str) -> int:
    return binascii.crc_hqx(bytes.fromhex(stated), _START)
