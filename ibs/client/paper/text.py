"""A paper key as plain text, for any printer; the QR code is drawn with block characters.

Used by `cli`. Pure.
"""

from __future__ import annotations

import textwrap
from typing import Final

from ibs.client.paper import page as pages
from ibs.client.paper.page import Page
from ibs.core import paperkey

WIDTH: Final = 79
_NAME: Final = 13
_BLOCKS: Final = {(False, False): " ", (True, False): "\u2580", (False, True): "\u2584", (True, True): "\u2588"}


def render(page: Page) -> str:
    """The whole page."""
    parts = [pages.TITLE.upper(), "", *textwrap.wrap(f"{pages.WARNING} {pages.CARE}", WIDTH), ""]
    for name, texts in page.facts:
        parts += [f"{name if place == 0 else '':<{_NAME}}{text}" for place, text in enumerate(texts)]
    parts += ["", paperkey.BEGIN, *page.lines, paperkey.END, ""]
    parts += [f"{'Whole checksum':<{_NAME}}   {page.checksum}", "", "To get the key back:", ""]
    for words, command in pages.HOW:
        parts += textwrap.wrap(words, WIDTH, initial_indent="* ", subsequent_indent="  ")
        parts += [f"      {command}"] if command else []
    parts += ["", *textwrap.wrap(pages.BY_HAND, WIDTH), "", *_drawn(pages.qr_modules(page))]
    return "\n".join(line.rstrip() for line in parts) + "\n"


def _drawn(modules: list[list[bool]]) -> list[str]:
    """Two rows of modules in a row of characters."""
    rows = [*modules, [False] * len(modules[0])] if len(modules) % 2 else modules
    return [
        "".join(_BLOCKS[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
