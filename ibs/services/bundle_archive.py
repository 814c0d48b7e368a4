"""Writes the members of a support bundle into one tar.zst with an index to read first. Used by `services.bundle`.

Blocks; runs in the pool. A bundle is whole or not there.
"""

from __future__ import annotations

import html
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

from ibs.core import limits


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the bundle; `what` says in a few words what it holds."""

    name: str
    what: str
    content: bytes


def stamped(time: str, source: str, text: str) -> str:
    """A line that says when and from where, whatever it is pasted into."""
    return f"{time} {source} {text}"


def write_bundle(path: Path, head: Sequence[str], members: Sequence[Member], mtime: int) -> int:
    """Write the bundle, readable by its owner only; its size. Older ones beside it go. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    older = sorted(path.parent.glob("*.tar.zst"), key=lambda one: one.stat().st_mtime_ns)
    for one in older[: max(0, len(older) - limits.BUNDLES_KEPT + 1)]:
        one.unlink(missing_ok=True)
    temporary = path.with_suffix(".partial")
    try:
        with (
            temporary.open("wb") as file,
            zstandard.ZstdCompressor(level=6).stream_writer(file, closefd=False) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            temporary.chmod(0o600)
            for member in (*_index(head, members), *members):
                entry = tarfile.TarInfo(f"support-bundle/{member.name}")
                entry.size, entry.mtime, entry.mode = len(member.content), mtime, 0o600
                tar.addfile(entry, io.BytesIO(member.content))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.stat().st_size


def _index(head: Sequence[str], members: Sequence[Member]) -> list[Member]:
    width = max([len(member.name) for member in members], default=0)
    rows = [f"{member.name:<{width}}  {len(member.content):>10}  {member.what}" for member in members]
    text = "\n".join([*head, "", *rows, ""])
    cells = "".join(
        f'<tr><td><a href="{html.escape(member.name)}">{html.escape(member.name)}</a></td>'
        f"<td>{len(member.content)}</td><td>{html.escape(member.what)}</td></tr>\n"
        for member in members
    )
    lines = "".join(f"<p>{html.escape(line)}</p>\n" for line in head)
    page = f'<!DOCTYPE html>\n<meta charset="utf-8"><title>Support bundle</title>\n{lines}<table>\n{cells}</table>\n'
    return [Member("index.txt", "", text.encode()), Member("index.html", "", page.encode())]
