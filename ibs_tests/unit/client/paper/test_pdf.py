"""The PDF: drawn by another program its codes are read, and the words found in it are the same key."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ibs.client.paper import pdf, scan
from ibs.client.paper.page import Page
from ibs.core import papertyped
from ibs.errors import UnavailableError
from ibs_tests.support import paper
from ibs_tests.unit.client.paper.test_page import PAGE

RENDERED = pdf.render(PAGE)


@paper.needs_renderers
@pytest.mark.parametrize("dots", [75, 150, 300])
def test_what_another_program_draws_is_read(tmp_path: Path, dots: int) -> None:
    assert scan.read(paper.pdf_as_png(RENDERED, tmp_path, dots=dots).read_bytes()) == PAGE.content


@paper.needs_renderers
def test_codes_and_words_are_the_same_key(tmp_path: Path) -> None:
    words = paper.pdf_words(RENDERED, tmp_path)
    assert papertyped.read(words) == PAGE.content == scan.read(RENDERED)
    assert "Whoever has this page" in words


def test_it_tells_nothing_of_the_host() -> None:
    assert pdf.render(PAGE) == RENDERED  # no time, no number of its own
    assert b"/Author (anonymous)" in RENDERED


def test_a_comment_in_any_script_does_no_harm() -> None:
    odd = Page(**{name: getattr(PAGE, name) for name in Page.__slots__} | {"comment": "b\u00fcro \u4e2d (\\"})
    assert scan.read(pdf.render(odd)) == PAGE.content


def test_without_the_library_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reportlab.pdfgen.canvas", None)
    with pytest.raises(UnavailableError, match="writing PDF needs reportlab") as caught:
        pdf.render(PAGE)
    assert "--format svg" in caught.value.hint
