"""A paper key as SVG: one A4 sheet, for a browser or a drawing program to print. It fetches nothing and runs nothing.

Used by `cli`. Pure.
"""

from __future__ import annotations

import re
from typing import Final
from xml.sax.saxutils import escape, unescape

from ibs.client.paper.layout import HEIGHT_MM, WIDTH_MM, Face, Text, sheet_of
from ibs.client.paper.page import TITLE, Page

_STYLES: Final = {
    Face.WORDS: "font-family:Helvetica,Arial,'Liberation Sans','DejaVu Sans',sans-serif",
    Face.BOLD: "font-family:Helvetica,Arial,'Liberation Sans','DejaVu Sans',sans-serif;font-weight:bold",
    Face.CODE: "font-family:Courier,'Liberation Mono','DejaVu Sans Mono',monospace;white-space:pre",
}

_TAG: Final = re.compile(r"<[^<>]*>")
_HEAD_CHARS: Final = 1024


def render(page: Page) -> str:
    """The whole file."""
    sheet = sheet_of(page)
    code = "".join(f"M{bar.x:.3f} {bar.y:.3f}h{bar.width:.3f}v{bar.height:.3f}h{-bar.width:.3f}z" for bar in sheet.bars)
    styles = "".join(f".{face}{{{style}}}" for face, style in _STYLES.items())
    size = f'width="{WIDTH_MM:g}mm" height="{HEIGHT_MM:g}mm" viewBox="0 0 {WIDTH_MM:g} {HEIGHT_MM:g}"'
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        f"<title>{escape(TITLE)}</title>",
        f"<style>{styles}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<path fill="#000" shape-rendering="crispEdges" d="{code}"/>',
        *map(_text, sheet.texts),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def text_of(data: str) -> str | None:
    """The words of a file that was kept instead of printed, a line each; None when it is no SVG."""
    return unescape(_TAG.sub("", data)) if "<svg" in data[:_HEAD_CHARS] else None


def _text(text: Text) -> str:
    where = f'x="{text.x:.2f}" y="{text.y:.2f}" font-size="{text.size:g}"'
    return f'<text class="{text.face}" {where} xml:space="preserve">{escape(text.text)}</text>'
