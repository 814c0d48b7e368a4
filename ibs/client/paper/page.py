"""What a printed paper key says, whatever it is printed as.

Used by the renderers beside it and by `cli`. Pure but for `write`. Invariants: every rendering has the same lines, QR
code and words; a page that holds a key is never in `repr`; a file with one is 0600 from its first moment and replaces
nothing.
"""

from __future__ import annotations

import os
import stat
import textwrap
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ibs.core import paperkey
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.core.paperkey import PaperKey
from ibs.errors import ConflictError, UsageError

if TYPE_CHECKING:
    from ibs.security.keyfile import LoadedKey

TITLE: Final = "Ironcore Backup: paper key"
WARNING: Final = "Whoever has this page can read every backup made with this key, without any passphrase."
CARE: Final = (
    "Lock it away as you would cash, off the host and off the backup server. Keep no copy of it in a cloud, in mail, "
    "or in a printer's memory. The server cannot bring this key back; this page can."
)
HOW: Final = (
    ("Scan or photograph the page, and on a host with the client:", "ironcore-backup-client key paperkey restore FILE"),
    (
        "Or type the numbered lines (case and spaces do not matter; a mistyped line is named):",
        "ironcore-backup-client key paperkey restore -",
    ),
    ("It asks for a new passphrase, and prints the fingerprint and the whole checksum: compare them with these.", ""),
)
BY_HAND: Final = (
    "Without the QR code and without this program: each line is its number, 8 bytes in hex, and the CRC-16/CCITT "
    "(begun with FFFF) of number and bytes. Leave numbers and checksums away, and the first two bytes: the 32 bytes "
    "that follow are the key's root secret; the last six are the whole checksum."
)
_QUIET_MODULES: Final = 4
_COMMENT_CHARS: Final = 60
"""In a line; there are at most two."""
_CUT: Final = " ..."


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `content` is `core.paperkey.encode`'s; `printed` a time as text."""

    content: bytes = field(repr=False)
    fingerprint: str
    mode: str
    comment: str
    created: str
    printed: str

    @property
    def checksum(self) -> str:
        """Of the whole."""
        return paperkey.checksum(self.content)

    @property
    def lines(self) -> list[str]:
        """Those to be typed."""
        return paperkey.lines(self.content)

    @property
    def facts(self) -> list[tuple[str, list[str]]]:
        """What the page says of its key: a name, and the lines of its text."""
        pairs = self.fingerprint.split(":")
        half = len(pairs) // 2
        return [
            ("Key", textwrap.wrap(self.comment, _COMMENT_CHARS, max_lines=2, placeholder=_CUT) or ["-"]),
            ("Fingerprint", [":".join(pairs[:half]) + ":", ":".join(pairs[half:])]),
            ("Mode", [self.mode]),
            ("Made", [self.created or "-"]),
            ("Printed", [self.printed]),
        ]


def page_of(key: LoadedKey, *, printed: str) -> Page:
    """The page of an opened keyfile."""
    return Page(
        content=paperkey.encode(PaperKey(key.mode, key.keys.root)),
        fingerprint=hex_fingerprint(key.keys.fingerprint),
        mode=key.mode,
        comment=key.comment,
        created=key.created,
        printed=printed,
    )


def fingerprint_of(content: bytes) -> str:
    """Of the key that a paper holds, in colon form. Raises FormatError."""
    return hex_fingerprint(DataKeys.from_root(paperkey.decode(content).root).fingerprint)


def qr_modules(page: Page) -> list[list[bool]]:
    """The QR code, True where it is dark, with its quiet zone; it survives the loss of up to 30 % of its area."""
    import segno  # noqa: PLC0415 - loaded only where something is printed

    code = segno.make_qr(paperkey.qr_text(page.content), error="h")
    return [[module == 1 for module in row] for row in code.matrix_iter(border=_QUIET_MODULES)]


def taken(path: Path) -> ConflictError:
    """That there is something at `path`."""
    return ConflictError(f"{path} exists already", hint="give another name, or remove it")


def write(path: Path, data: bytes) -> bool:
    """Put a page into a new file; False where its file system lets others read it all the same.

    *Durability*: kept when this returns. Raises ConflictError when there is something already, UsageError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise taken(path) from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="check the folder") from error
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(descriptor)
            return not stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="check its free space") from error
