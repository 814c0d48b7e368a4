"""Limits of paper keys; those of the line code are part of the format (formats.md §1)."""

from __future__ import annotations

from typing import Final

LINE_BYTES: Final = 8
"""Of the secret, on each line."""
GROUP_CHARS: Final = 4
NUMBER_CHARS: Final = 2
LINE_CHARS: Final = 22
"""Number (2), content (16) and checksum (4) of a line, without the spaces between them."""
LINES_MAX: Final = 99
CHECKSUM_BYTES: Final = 6
"""Of the whole."""

SUGGESTIONS_MAX: Final = 3
"""Ways to right a line that are told; where there are more, none of them is worth telling."""
UNREADABLE_CHARS_MAX: Final = 2
"""Characters of a line that are no hex digits, and still are worked out from the others."""
TYPED_BYTES_MAX: Final = 64 * 1024
TYPED_LINES_MAX: Final = 400
TYPED_TRIES_MAX: Final = 100
"""Lines asked for on a terminal until somebody should rest."""

PICTURE_BYTES_MAX: Final = 64 * 1024 * 1024
PICTURE_PIXELS_MAX: Final = 64_000_000
PICTURE_SEARCHED_PIXELS_MAX: Final = 16_000_000
"""Larger ones are made smaller first: a code that fills a twentieth of them is found all the same."""
PICTURE_SCALES: Final = (0.5, 0.25, 2.0)
"""Sizes in which a code is looked for that is not found as it is."""
PDF_PAGES_MAX: Final = 10
PDF_DOTS_AN_INCH: Final = 200
PDF_HEAD_BYTES: Final = 1024
"""Some scanners write something before the PDF begins."""
