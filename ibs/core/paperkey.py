"""Paper keys: a key as lines to be typed and a text for a QR code (contrib/docs/formats.md §1).

Pure; used by `client` and the CLI. `core.paperlines` has the code of one line, `core.papertyped` reads what somebody
typed. Invariants: lines and QR code hold the same bytes, and those hold a checksum of the whole, so that no reader ever
makes a key of something else; nothing secret is in `repr` or in an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from blake3 import blake3

from ibs.core import limits_paper, paperlines
from ibs.core.keys import ROOT_BYTES
from ibs.errors import FormatError

FORMAT: Final = 1
BEGIN: Final = "-----BEGIN IRONCORE BACKUP PAPER KEY-----"
END: Final = "-----END IRONCORE BACKUP PAPER KEY-----"
_QR: Final = "IBS-PAPERKEY:"
_CONTEXT: Final = "ironcore-backup 2026 v1 paper checksum"
_MODES: Final[dict[int, Literal["encrypt", "sign-only"]]] = {1: "encrypt", 2: "sign-only"}
_HEAD_BYTES: Final = 2
CONTENT_BYTES: Final = _HEAD_BYTES + ROOT_BYTES + limits_paper.CHECKSUM_BYTES
LINES: Final = CONTENT_BYTES // limits_paper.LINE_BYTES
"""Of a data key: 5."""


@dataclass(frozen=True, slots=True)
class PaperKey:
    """What is on the paper; `root` has 32 bytes."""

    mode: Literal["encrypt", "sign-only"]
    root: bytes = field(repr=False)


def encode(key: PaperKey) -> bytes:
    """The paper's 40 bytes: format, what it is, the root, and the checksum of the whole."""
    kind = next(number for number, mode in _MODES.items() if mode == key.mode)
    stated = bytes((FORMAT, kind)) + key.root
    return stated + _digest(stated)


def decode(content: bytes) -> PaperKey:
    """Raises FormatError for another format, and for bytes whose checksum does not hold."""
    if len(content) != CONTENT_BYTES:
        raise FormatError(f"a paper key holds {CONTENT_BYTES} bytes, not {len(content)}", hint="read all of it")
    if content[0] != FORMAT or content[1] not in _MODES:
        if holds(content):
            raise FormatError(
                f"paper key format {content[0]}.{content[1]} is not known", hint="a newer release printed it: upgrade"
            )
        raise FormatError("this is no paper key of a data key", hint="read it again, all of it")
    if not holds(content):
        raise FormatError(
            "the whole checksum of the paper key does not hold",
            hint="lines of two papers are mixed, or more than one character is wrong: read it again",
        )
    return PaperKey(_MODES[content[1]], content[_HEAD_BYTES : _HEAD_BYTES + ROOT_BYTES])


def holds(content: bytes) -> bool:
    """Whether the checksum of the whole is right."""
    stated, check = content[: -limits_paper.CHECKSUM_BYTES], content[-limits_paper.CHECKSUM_BYTES :]
    return _digest(stated) == check


def checksum(content: bytes) -> str:
    """Of the whole, as it is printed: three groups of four hex digits."""
    return paperlines.grouped(content[-limits_paper.CHECKSUM_BYTES :].hex())


def lines(content: bytes) -> list[str]:
    """The lines as they are printed, each with its number and its checksum."""
    step = limits_paper.LINE_BYTES
    return [
        paperlines.printed(paperlines.encode(number, content[start : start + step]))
        for number, start in enumerate(range(0, len(content), step), start=1)
    ]


def qr_text(content: bytes) -> str:
    """What the QR code says; only characters of its alphanumeric mode."""
    return f"{_QR}{content.hex().upper()}"


def parse_qr(text: str) -> bytes | None:
    """The content of a QR code; None when it is no paper key's. Raises FormatError when it is one, and broken."""
    text = text.strip()
    if not text.startswith(_QR):
        return None
    try:
        return bytes.fromhex(text.removeprefix(_QR))
    except ValueError as error:
        raise FormatError("the paper key's QR code is damaged", hint="type its lines instead") from error


def _digest(stated: bytes) -> bytes:
    return blake3(stated, derive_key_context=_CONTEXT).digest(limits_paper.CHECKSUM_BYTES)
