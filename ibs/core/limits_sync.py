"""Limits of remotes and of copying between servers."""

from __future__ import annotations

from typing import Final

REMOTES_MAX: Final = 1000
REMOTE_SECRET_CHARS_MAX: Final = 256
REMOTE_TEXT_CHARS_MAX: Final = 256
