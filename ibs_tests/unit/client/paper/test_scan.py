"""Pictures: crooked, dim, noisy and stained ones are read; what is no paper key, or two of them, is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import segno
from PIL import Image

from ibs.client.paper import pdf, scan, svg
from ibs.core import limits_paper, paperkey
from ibs.core.paperkey import PaperKey
from ibs.errors import FormatError, UnavailableError
from ibs_tests.support import paper
from ibs_tests.unit.client.paper.test_page import PAGE


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper.svg_as_png(svg.render(PAGE), tmp_path_factory.mktemp("page"))


def code(text: str, folder: Path) -> bytes:
    """A picture of one QR code."""
    target = folder / "code.png"
    segno.make_qr(text, error="m").save(str(target), scale=6)
    return target.read_bytes()


@paper.needs_renderers
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_kinds_of_pictures(drawn: Path, kind: str) -> None:
    data = paper.as_bytes(paper.photo(drawn), kind)
    assert scan.is_picture(data)
    assert scan.read(data) == PAGE.content


@paper.needs_renderers
@pytest.mark.parametrize(
    "how",
    [
        {"turned": 7.0},
        {"turned": 45.0, "noise": 20},
        {"turned": 181.0, "shade": 90},
        {"tilted": 0.06, "turned": 12.0},
        {"noise": 45},
        {"blur": 1.5, "noise": 10},
        {"shade": 120, "noise": 25, "turned": -20.0, "tilted": 0.03, "blur": 0.8},
    ],
    ids=str,
)
def test_a_bad_photo_is_read(drawn: Path, how: dict[str, Any]) -> None:
    assert scan.read(paper.as_bytes(paper.photo(drawn, **how))) == PAGE.content


@paper.needs_renderers
def test_a_stained_page_is_read(drawn: Path) -> None:
    first, second = (0.1, 0.27, 0.4, 0.52), (0.68, 0.36, 0.79, 0.43)
    for stains in ((first,), (second,), (first, second)):
        assert scan.read(paper.as_bytes(paper.stained(drawn, *stains))) == PAGE.content
    both = ((0.05, 0.22, 0.47, 0.56), (0.47, 0.22, 0.9, 0.56))
    with pytest.raises(FormatError, match="no QR code is found"):
        scan.read(paper.as_bytes(paper.stained(drawn, *both)))


def test_other_codes_are_not_taken_for_a_key(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no paper key's") as caught:
        scan.read(code("https://example.org/", tmp_path))
    assert "type its lines" in caught.value.hint
    wrong = bytearray(PAGE.content)
    wrong[10] ^= 1
    with pytest.raises(FormatError, match="whole checksum"):
        scan.read(code(paperkey.qr_text(bytes(wrong)), tmp_path))


def test_two_keys_in_one_picture_are_refused(tmp_path: Path) -> None:
    other = paperkey.encode(PaperKey("encrypt", bytes(32)))
    both = Image.new("L", (1200, 600), 255)
    for place, content in enumerate((PAGE.content, other)):
        (tmp_path / "one.png").write_bytes(code(paperkey.qr_text(content), tmp_path))
        with Image.open(tmp_path / "one.png") as opened:
            both.paste(opened.convert("L"), (place * 600 + 40, 40))
    with pytest.raises(FormatError, match="different keys"):
        scan.read(paper.as_bytes(both))


def test_what_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    white = paper.as_bytes(Image.new("L", (400, 400), 255))
    with pytest.raises(FormatError, match="no QR code is found"):
        scan.read(white)
    for data in (white[:60], b"\x89PNG\r\n\x1a\nrubbish", b"II*\x00" + bytes(40)):
        assert scan.is_picture(data)
        with pytest.raises(FormatError, match="cannot be read"):
            scan.read(data)
    with pytest.raises(FormatError, match="PDF cannot be read"):
        scan.read(b"%PDF-1.4 rubbish")
    assert not scan.is_picture(b"01   0101 3f1c")
    monkeypatch.setattr(limits_paper, "PICTURE_PIXELS_MAX", 100_000)
    with pytest.raises(FormatError, match="more than 100000 pixels"):
        scan.read(white)
    with pytest.raises(FormatError, match="page of the PDF is too large"):
        scan.read(pdf.render(PAGE))
    monkeypatch.setattr(limits_paper, "PICTURE_BYTES_MAX", 100)
    with pytest.raises(FormatError, match="picture is too large"):
        scan.read(white)


def test_a_pdf_of_scanned_pages(drawn: Path) -> None:
    blank = Image.new("L", (800, 1100), 255)
    with Image.open(drawn) as opened:
        shot = opened.convert("RGB").rotate(3, expand=True, fillcolor="white")
    file = paper.as_bytes(shot, "PDF")
    assert scan.read(file) == PAGE.content
    assert scan.is_picture(b"\n\n" + file)
    with pytest.raises(FormatError, match="no QR code is found"):
        scan.read(paper.as_bytes(blank, "PDF"))


@pytest.mark.parametrize(
    ("module", "library"), [("zxingcpp", "zxing-cpp"), ("PIL", "Pillow"), ("pypdfium2", "pypdfium2")]
)
def test_without_a_library_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch, module: str, library: str) -> None:
    data = pdf.render(PAGE) if module == "pypdfium2" else paper.as_bytes(Image.new("L", (40, 40), 255))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnavailableError, match=f"needs {library}") as caught:
        scan.read(data)
    assert "ironcore-backup[paper]" in caught.value.hint
    assert "paperkey restore -" in caught.value.hint
