"""Where everything stands on the sheet of a paper key; SVG and PDF draw the same one.

Used by the renderers beside it. Pure. Lengths are millimetres from the upper left corner of an A4 sheet; what matters
also fits on US Letter.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ibs.client.paper import page as pages
from ibs.client.paper.page import Page

WIDTH_MM: Final = 210.0
HEIGHT_MM: Final = 297.0
LETTER_HEIGHT_MM: Final = 279.4
LETTER_WIDTH_MM: Final = 215.9
MARGIN_MM: Final = 15.0
_QR_MM: Final = 60.0
_SECOND_MM: Final = 100.0
"""Where the second QR code begins, the same as the first: a stain or a fold spoils one of them."""
_WORDS_MM, _KEY_MM = 3.4, 5.2
_WORDS_CHARS: Final = 96
_LEADING: Final = 1.45


class Face(StrEnum):
    """What a text is set in."""

    WORDS = "words"
    BOLD = "bold"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Text:
    """One line; `y` is its base line, `size` the height of its type."""

    x: float
    y: float
    size: float
    face: Face
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bar:
    """Dark modules of a QR code that stand side by side."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Sheet:
    """The whole sheet."""

    texts: tuple[Text, ...] = field(repr=False)
    bars: tuple[Bar, ...] = field(repr=False)


def sheet_of(page: Page) -> Sheet:
    """Lay out one page."""
    pen = _Pen()
    pen.put(pages.TITLE, size=6.5, face=Face.BOLD, after=2)
    pen.put_wrapped(pages.WARNING, face=Face.BOLD)
    pen.put_wrapped(pages.CARE, after=3)
    for name, texts in page.facts:
        for place, text in enumerate(texts):
            face = Face.CODE if name == "Fingerprint" else Face.WORDS
            pen.put_beside(name if place == 0 else "", text, face=face)
    top = pen.y + 2
    pen.y = top + _QR_MM
    pen.put("Both codes are the same, and each of them holds the same as the lines below.", after=2)
    for line in page.lines:
        pen.put(line, size=_KEY_MM, face=Face.CODE, after=0.8)
    pen.y += 2
    pen.put_beside("Whole checksum", page.checksum, face=Face.CODE)
    pen.y += 4
    pen.put("To get the key back", face=Face.BOLD)
    for words, command in pages.HOW:
        pen.put_wrapped(words)
        if command:
            pen.put(command, face=Face.CODE, indent=6, after=1)
    pen.y += 2
    pen.put_wrapped(pages.BY_HAND)
    modules = pages.qr_modules(page)
    bars = [bar for left in (MARGIN_MM, _SECOND_MM) for bar in _bars(modules, left, top)]
    return Sheet(tuple(pen.texts), tuple(bars))


class _Pen:
    """Writes lines downwards."""

    def __init__(self) -> None:
        self.texts: list[Text] = []
        self.y = MARGIN_MM

    def put(
        self, text: str, *, size: float = _WORDS_MM, face: Face = Face.WORDS, indent: float = 0, after: float = 0
    ) -> None:
        self.y += size * _LEADING
        self.texts.append(Text(MARGIN_MM + indent, self.y, size, face, text))
        self.y += after

    def put_wrapped(self, text: str, *, face: Face = Face.WORDS, after: float = 0.8) -> None:
        for line in textwrap.wrap(text, _WORDS_CHARS):
            self.put(line, face=face)
        self.y += after

    def put_beside(self, name: str, text: str, *, face: Face) -> None:
        if name:
            self.texts.append(Text(MARGIN_MM, self.y + _WORDS_MM * _LEADING, _WORDS_MM, Face.WORDS, name))
        self.put(text, face=face, indent=30)


def _bars(modules: list[list[bool]], left: float, top: float) -> Iterator[Bar]:
    """Each run of dark modules in a row, in a square of the code's size."""
    step = _QR_MM / len(modules)
    for down, row in enumerate(modules):
        across = 0
        while across < len(row):
            end = across
            while end < len(row) and row[end]:
                end += 1
            if end > across:
                yield Bar(left + across * step, top + down * step, (end - across) * step, step)
            across = end + 1
