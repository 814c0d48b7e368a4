"""The text page: fits any printer, says everything, and is read back as it is."""

from __future__ import annotations

import pytest

from ibs.client.paper import page as pages
from ibs.client.paper import scan, text
from ibs.core import paperkey, papertyped
from ibs_tests.support import paper
from ibs_tests.unit.client.paper.test_page import KEYS, PAGE

RENDERED = text.render(PAGE)


def test_it_fits_on_one_page_of_a_plain_printer() -> None:
    rows = RENDERED.splitlines()
    assert max(map(len, rows)) <= text.WIDTH
    assert len(rows) <= 72
    assert not any(row.endswith(" ") for row in rows)


def test_it_says_what_it_is_and_how_to_use_it() -> None:
    flat = " ".join(RENDERED.split())
    for words in (pages.WARNING, pages.CARE, pages.BY_HAND, PAGE.checksum, "key paperkey restore FILE", "web01"):
        assert words in flat
    assert paperkey.BEGIN in RENDERED
    assert "".join(dict(PAGE.facts)["Fingerprint"]) in RENDERED.replace("\n", "").replace(" ", "")
    assert KEYS.root.hex() not in RENDERED  # in groups only


def test_it_is_read_back() -> None:
    assert papertyped.read(RENDERED) == PAGE.content


def test_the_words_for_doing_it_by_hand_are_true() -> None:
    lines = RENDERED.split(paperkey.BEGIN)[1].split(paperkey.END)[0].split("\n")
    digits = "".join("".join(line.split()[1:-1]) for line in lines if line)
    assert bytes.fromhex(digits)[2:34] == KEYS.root


def test_the_code_is_drawn_two_rows_in_one() -> None:
    modules = pages.qr_modules(PAGE)
    drawn = [row.ljust(len(modules)) for row in RENDERED.splitlines()[-27:]]
    upper = [[character in "\u2580\u2588" for character in row] for row in drawn]
    assert upper == modules[::2]


@pytest.mark.skipif(not paper.MONOSPACE.exists(), reason="needs fonts-dejavu-core")
@pytest.mark.parametrize(("ink", "sheet"), [(0, 255), (230, 20)], ids=["printed", "on a dark terminal"])
@pytest.mark.parametrize("gap", [0, 2])
def test_its_code_is_read_as_printers_and_terminals_draw_it(ink: int, sheet: int, gap: int) -> None:
    """With the font's own height of a line, and with a little air between the lines."""
    picture = paper.text_as_picture(RENDERED, ink=ink, sheet=sheet, gap=gap)
    assert scan.read(paper.as_bytes(picture)) == PAGE.content
