"""Whatever the file is: a picture, a drawing, or text as any editor saves it."""

from __future__ import annotations

import pytest

from ibs.client.paper import pdf, source, svg, text
from ibs.errors import FormatError
from ibs_tests.unit.client.paper.test_page import PAGE

LINES = "\r\n".join(PAGE.lines)


@pytest.mark.parametrize(
    "data",
    [
        pdf.render(PAGE),
        svg.render(PAGE).encode(),
        text.render(PAGE).encode(),
        LINES.encode(),
        LINES.encode("utf-8-sig"),
        LINES.encode("utf-16"),
        ("\ufeff" + text.render(PAGE)).encode("utf-16-be"),
        LINES.replace(" ", "\u00a0").encode("latin-1"),
    ],
    ids=["pdf", "svg", "text", "lines", "utf-8-sig", "utf-16", "utf-16-be", "latin-1"],
)
def test_every_kind_of_file(data: bytes) -> None:
    assert source.read(data) == PAGE.content


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no line of a paper key"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(100), "picture cannot be read"),
        (bytes(range(256)) * 10, "picture cannot be read"),
        (b"PK\x03\x04\x14\x00\x06\x00" + bytes(100), "picture cannot be read"),
        (b"\xff\xfe\x00", "no line of a paper key"),
        (b"<svg></svg>", "no line of a paper key"),
        (b"0" * 100_000, "longer than any"),
    ],
    ids=["empty", "heic", "bytes", "zip", "half", "svg", "long"],
)
def test_what_is_none(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        source.read(data)
