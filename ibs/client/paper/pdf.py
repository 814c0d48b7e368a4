"""A paper key as PDF: one A4 sheet, with the fonts that every viewer has. Drawn with reportlab (the extra `paper`).

Used by `cli`. Pure. The file says nothing about who made it where and when, beyond what is on the sheet.
"""

from __future__ import annotations

import io
from typing import Final

from ibs.client.paper.layout import HEIGHT_MM, WIDTH_MM, Face, sheet_of
from ibs.client.paper.missing import missing
from ibs.client.paper.page import TITLE, Page

_POINTS: Final = 72 / 25.4
_FONTS: Final = {Face.WORDS: "Helvetica", Face.BOLD: "Helvetica-Bold", Face.CODE: "Courier"}
_ENCODING: Final = "cp1252"
"""Of the fonts that every viewer has."""


def render(page: Page) -> bytes:
    """The whole file. Raises UnavailableError where the extra is not installed."""
    try:
        from reportlab.pdfgen.canvas import Canvas  # noqa: PLC0415 - an extra, and loaded only here
    except ImportError as error:
        raise missing("writing PDF", "reportlab", "give --format svg or text") from error
    sheet = sheet_of(page)
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=(WIDTH_MM * _POINTS, HEIGHT_MM * _POINTS), invariant=1, pageCompression=1)
    canvas.setTitle(TITLE)
    for text in sheet.texts:
        canvas.setFont(_FONTS[text.face], text.size * _POINTS)
        shown = text.text.encode(_ENCODING, "replace").decode(_ENCODING)
        canvas.drawString(text.x * _POINTS, (HEIGHT_MM - text.y) * _POINTS, shown)
    codes = canvas.beginPath()
    for bar in sheet.bars:
        lower = HEIGHT_MM - bar.y - bar.height
        codes.rect(bar.x * _POINTS, lower * _POINTS, bar.width * _POINTS, bar.height * _POINTS)
    canvas.drawPath(codes, stroke=0, fill=1)
    canvas.showPage()
    canvas.save()
    return file.getvalue()
