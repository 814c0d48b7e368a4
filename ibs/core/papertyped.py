"""Reading the lines of a paper key as somebody typed them: what is wrong is named by line, and righted where possible.

Pure; used by `client` and the CLI. Invariant: a key comes out only when every line is right and the whole checksum
holds; a mistake is suggested, never corrected silently. A suggestion names single characters, no line is ever repeated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from ibs.core import limits_paper, paperkey, paperlines
from ibs.core.limits_paper import GROUP_CHARS, LINE_CHARS, NUMBER_CHARS
from ibs.core.paperlines import Mistake, Suggestion
from ibs.errors import FormatError

_NUMBER: Final = re.compile(r"\W*([^\W_]{1,2})(?![^\W_])")
_CHARS_MIN, _CHARS_MAX = LINE_CHARS - NUMBER_CHARS - 4, LINE_CHARS + 4
_HEX_SHARE_MIN: Final = 0.9
"""Of a line without a readable number, to be taken for one of the paper's at all."""


@dataclass(frozen=True, slots=True)
class Line:
    """A typed line; `place` counts the typed ones from 1."""

    place: int
    word: str = field(repr=False)
    suggestions: tuple[Suggestion, ...] = ()
    numbered: bool = True

    @property
    def is_right(self) -> bool:
        """Whether its checksum holds."""
        return paperlines.is_right(self.word)

    @property
    def name(self) -> str:
        """Its number as typed, else where it was typed."""
        number = self.word[:NUMBER_CHARS]
        return f"line {number}" if self.numbered and number.isdecimal() else f"the line typed as number {self.place}"


def read(text: str) -> bytes:
    """The content of the paper. Raises FormatError that names every line which is wrong, missing or there twice."""
    lines = parse(text)
    if not lines:
        raise FormatError(
            "no line of a paper key is in this text",
            hint="a line is its number, four groups of four characters, and its checksum",
        )
    problems = _problems(lines)
    if problems:
        raise FormatError(
            f"the paper key was not read: {'; '.join(problems)}", hint=_hint(lines), problems=list(problems)
        )
    content = _joined([line.word for line in lines])
    paperkey.decode(content)
    return content


def parse(text: str) -> list[Line]:
    """The lines that are meant to be the paper's; of a whole page those between its marks."""
    if len(text) > limits_paper.TYPED_BYTES_MAX:
        raise FormatError("this is longer than any paper key", hint="give its lines and nothing else")
    rows = text.splitlines()
    begins = [place for place, row in enumerate(rows) if row.strip() == paperkey.BEGIN]
    if begins:
        ends = [place for place, row in enumerate(rows) if row.strip() == paperkey.END and place > begins[0]]
        rows = rows[begins[0] + 1 : ends[0] if ends else None]
    found: list[Line] = []
    for row in rows[: limits_paper.TYPED_LINES_MAX]:
        line = _line(row, len(found) + 1)
        if line is not None:
            found.append(line)
    return found


def asked(row: str, number: int) -> Line:
    """What was typed when line `number` was asked for; its number may be left away then."""
    line = _line(row, number)
    if line is None or not line.numbered:
        line = _line(f"{number:02d} {row}", number)
    return line or Line(number, f"{number:02d}")


def describe(suggestion: Suggestion) -> str:
    """What should perhaps be typed instead, in words."""
    where = [paperlines.place_name(place) for place in suggestion.places]
    match suggestion.mistake:
        case Mistake.OTHER:
            wrong = zip(where, suggestion.right, suggestion.typed, strict=True)
            return " and ".join(f"{place} is probably {right}, not {typed}" for place, right, typed in wrong)
        case Mistake.SWAPPED:
            return f"{where[0]} and the next one are probably swapped"
        case Mistake.MISSING:
            return f"a character is missing, probably {suggestion.right} as {where[0]}"
        case Mistake.EXTRA:
            return f"there is one character too many, probably {suggestion.typed} at {where[0]}"


def trouble(line: Line) -> str:
    """What is wrong with a line that is not right, its name first."""
    if not line.numbered:
        return f"{line.name} does not begin with its number"
    if line.suggestions:
        return f"{line.name}: {', or '.join(describe(suggestion) for suggestion in line.suggestions)}"
    count = len(line.word) - NUMBER_CHARS
    if count != LINE_CHARS - NUMBER_CHARS:
        return f"{line.name} has {count} characters after its number, not {LINE_CHARS - NUMBER_CHARS}"
    return f"{line.name} is wrong in more than one character"


def _line(row: str, place: int) -> Line | None:
    compact = "".join(character for character in row if character.isalnum()).casefold()
    found = _NUMBER.match(row)
    number = found.group(1).casefold() if found else ""
    if not number and not _like_a_line(compact):
        return None
    if number and not _CHARS_MIN <= len(compact) <= _CHARS_MAX:
        return None
    numbered = bool(number) or len(compact) > LINE_CHARS - NUMBER_CHARS
    word = number.rjust(NUMBER_CHARS, "0") + compact[len(number) :] if number else compact
    if paperlines.is_right(word) or not numbered:
        return Line(place, word, numbered=numbered)
    return Line(place, word, tuple(paperlines.suggestions(word)))


def _like_a_line(compact: str) -> bool:
    digits = sum(character in paperlines.HEX for character in compact)
    return LINE_CHARS - GROUP_CHARS <= len(compact) <= _CHARS_MAX and digits >= _HEX_SHARE_MIN * len(compact)


def _problems(lines: list[Line]) -> list[str]:
    problems = [trouble(line) for line in lines if not line.is_right]
    numbers = [paperlines.number_of(line.word) for line in lines if line.is_right]
    problems += [f"line {number:02d} is there twice" for number in sorted(set(numbers)) if numbers.count(number) > 1]
    problems += [
        f"line {number:02d} is none of this paper, which has {paperkey.LINES} lines"
        for number in sorted(set(numbers))
        if number > paperkey.LINES
    ]
    unread = {_typed_number(line) for line in lines if not line.is_right}
    unread |= {paperlines.number_of(other.word) for line in lines for other in line.suggestions}
    missing = [number for number in range(1, paperkey.LINES + 1) if number not in numbers and number not in unread]
    if missing:
        named = ", ".join(f"{number:02d}" for number in missing)
        problems.append(f"line {named} is missing" if len(missing) == 1 else f"lines {named} are missing")
    return problems


def _typed_number(line: Line) -> int:
    number = line.word[:NUMBER_CHARS]
    return int(number) if line.numbered and number.isdecimal() else 0


def _joined(words: list[str]) -> bytes:
    return b"".join(map(paperlines.content_of, sorted(words, key=paperlines.number_of)))


def _hint(lines: list[Line]) -> str:
    """Whether the suggestions together make the key: then they are more than guesses."""
    words = [line.word if line.is_right else line.suggestions[0].word for line in lines if _certain(line)]
    numbers = sorted(map(paperlines.number_of, words))
    if len(words) == len(lines) and numbers == list(range(1, paperkey.LINES + 1)) and paperkey.holds(_joined(words)):
        return "with these corrections the whole checksum holds: compare them with the paper and type them so"
    return "compare these lines with the paper, character by character"


def _certain(line: Line) -> bool:
    return line.is_right or len(line.suggestions) == 1
