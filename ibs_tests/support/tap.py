"""What a program says under its TLS, and what somebody who holds those bytes, or a server's disk, can read in them.

As a program: `python -m ibs_tests.support.tap FILE ARGUMENTS...` runs the client and appends all it sends to FILE.
"""

from __future__ import annotations

import base64
import contextlib
import ssl
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
PLAIN_BYTES_MAX = 64 << 20


def tap(file: Path) -> None:
    """From now on, what this process gives to TLS is also written to `file`."""
    real = ssl.SSLObject.write

    def write(self: ssl.SSLObject, data: bytes) -> int:
        sent = real(self, data)
        with file.open("ab") as opened:
            opened.write(memoryview(data)[:sent])
        return sent

    ssl.SSLObject.write = write  # type: ignore[method-assign]


def found(markers: Iterable[bytes], data: bytes) -> set[bytes]:
    """The markers that are in `data`: as they are, in hex, in base64 or within anything that zstd packed there."""
    forms = {form: marker for marker in markers for form in _forms(marker)}
    return {marker for part in (data, *_unpacked(data)) for form, marker in forms.items() if form in part}


def found_below(markers: Iterable[bytes], folders: Iterable[Path]) -> dict[bytes, Path]:
    """The same for all files below `folders`, and for their names."""
    wanted = tuple(markers)
    there: dict[bytes, Path] = {}
    for path in (path for folder in folders for path in folder.rglob("*")):
        there |= dict.fromkeys(found(wanted, bytes(path)), path)
        if path.is_file() and not path.is_symlink():
            there |= dict.fromkeys(found(wanted, path.read_bytes()), path)
    return there


def _forms(marker: bytes) -> Iterator[bytes]:
    yield marker
    yield marker.hex().encode()
    for shift in range(3):  # where it stands among the bytes that were written in base64 decides how it looks
        text = base64.b64encode(bytes(shift) + marker)
        yield text[4 if shift else 0 : -4]


def _unpacked(data: bytes) -> Iterator[bytes]:
    at = data.find(ZSTD_MAGIC)
    while at >= 0:
        with contextlib.suppress(zstandard.ZstdError):
            yield zstandard.ZstdDecompressor().decompressobj().decompress(data[at : at + PLAIN_BYTES_MAX])
        at = data.find(ZSTD_MAGIC, at + 1)


if __name__ == "__main__":
    tap(Path(sys.argv[1]))
    sys.argv = ["ironcore-backup-client", *sys.argv[2:]]
    from ibs.cli.client import main

    main()
