"""The sheet: everything is on it, on A4 as on Letter, and nothing stands upon something else."""

from __future__ import annotations

import itertools

import pytest

from ibs.client.paper import layout
from ibs.client.paper import page as pages
from ibs.client.paper.layout import MARGIN_MM, Face, Sheet, sheet_of
from ibs.client.paper.page import Page
from ibs_tests.unit.client.paper.test_page import KEYS, PAGE

LONG = Page(**{name: getattr(PAGE, name) for name in Page.__slots__} | {"comment": "a long comment " * 17})


@pytest.fixture(params=[PAGE, LONG], ids=["short", "long"])
def page(request: pytest.FixtureRequest) -> Page:
    assert isinstance(request.param, Page)
    return request.param


def test_everything_is_on_it(page: Page) -> None:
    words = " ".join(text.text for text in sheet_of(page).texts)
    for wanted in (pages.WARNING, pages.CARE, pages.BY_HAND, page.checksum, *page.lines, *page.fingerprint.split(":")):
        assert wanted in words
    for said, command in pages.HOW:
        assert said in words
        assert command in words
    assert page.comment[:100] in words


def test_it_fits_on_both_sizes_of_paper(page: Page) -> None:
    sheet = sheet_of(page)
    lowest = min(layout.HEIGHT_MM, layout.LETTER_HEIGHT_MM) - MARGIN_MM / 2
    widest = min(layout.WIDTH_MM, layout.LETTER_WIDTH_MM) - MARGIN_MM / 2
    for text in sheet.texts:
        assert MARGIN_MM <= text.y <= lowest, text
        advance = 0.6 if text.face is Face.CODE else 0.56
        assert text.x + len(text.text) * text.size * advance <= widest, text.text
    for bar in sheet.bars:
        assert MARGIN_MM <= bar.x <= bar.x + bar.width <= widest


def test_nothing_overlaps(page: Page) -> None:
    sheet = sheet_of(page)
    rows = sorted({text.y: text.size for text in sheet.texts}.items())
    for (upper, _), (lower, size) in itertools.pairwise(rows):
        assert lower - size >= upper
    top, bottom = min(bar.y for bar in sheet.bars), max(bar.y + bar.height for bar in sheet.bars)
    assert not any(top <= text.y <= bottom + text.size for text in sheet.texts)


def test_there_are_two_codes_and_they_are_the_same() -> None:
    bars = sheet_of(PAGE).bars
    middle = layout._SECOND_MM
    left = [bar for bar in bars if bar.x < middle]
    right = [bar for bar in bars if bar.x >= middle]
    assert len(left) == len(right) > 100
    for one, other in zip(left, right, strict=True):
        assert (one.y, one.width) == pytest.approx((other.y, other.width))
        assert other.x - one.x == pytest.approx(middle - MARGIN_MM)


def test_no_part_of_it_shows_the_key_in_a_repr() -> None:
    sheet = sheet_of(PAGE)
    assert isinstance(sheet, Sheet)
    shown = repr(sheet) + repr(sheet.texts)
    assert KEYS.root[:4].hex() not in shown
    assert PAGE.lines[1] not in shown
