"""A file that somebody says is a paper key: a picture, a drawing or a text.

Used by `cli`. Blocking where it is a picture.
"""

from __future__ import annotations

import codecs
from typing import Final

from ibs.client.paper import scan, svg
from ibs.core import limits_paper, papertyped

_WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read(data: bytes) -> bytes:
    """The content of the paper key. Raises FormatError, UnavailableError where a library is missing."""
    if data.startswith(_WIDE):  # as some editors save text
        return papertyped.read(data[: limits_paper.TYPED_BYTES_MAX * 2].decode("utf-16", "replace"))
    if scan.is_picture(data):
        return scan.read(data)
    text = data[: limits_paper.TYPED_BYTES_MAX + 1].decode("utf-8-sig", "replace")
    return papertyped.read(svg.text_of(text) or text)
