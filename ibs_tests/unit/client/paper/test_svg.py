"""The SVG: drawn by another program, its codes are read and its words are there; it fetches and runs nothing."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from ibs.client.paper import scan, svg
from ibs.client.paper.page import Page
from ibs.core import papertyped
from ibs_tests.support import paper
from ibs_tests.unit.client.paper.test_page import PAGE

ODD = Page(**{name: getattr(PAGE, name) for name in Page.__slots__} | {"comment": "<script>&amp;</svg> \u4e2d"})


@pytest.mark.parametrize("page", [PAGE, ODD], ids=["plain", "odd"])
def test_it_is_well_formed_and_says_what_the_page_says(page: Page) -> None:
    tree = ElementTree.fromstring(svg.render(page))
    words = [element.text or "" for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert page.comment in words
    for line in page.lines:
        assert line in words


def test_it_is_a_drawing_and_nothing_else() -> None:
    tree = ElementTree.fromstring(svg.render(ODD))
    names = {element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in tree.iter()}
    assert names == {"svg", "title", "style", "rect", "path", "text"}
    assert "url(" not in svg.render(ODD)
    assert "href" not in svg.render(ODD)


@paper.needs_renderers
@pytest.mark.parametrize("dots", [75, 150, 300])
def test_what_another_program_draws_is_read(tmp_path: Path, dots: int) -> None:
    assert scan.read(paper.svg_as_png(svg.render(PAGE), tmp_path, dots=dots).read_bytes()) == PAGE.content


def test_a_file_that_was_kept_is_read_by_its_words() -> None:
    words = svg.text_of(svg.render(ODD))
    assert words is not None
    assert ODD.comment in words
    assert papertyped.read(words) == PAGE.content
    assert svg.text_of("01   0101") is None
