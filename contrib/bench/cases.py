"""What is measured on each data set: the cases, tool by tool in turn so that drift of the machine hits all alike."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dataset
from tools import Figures, Ours, Tool

Row = dict[str, Any]
DIRTY_SHARE = 0.02
LINE_MBIT = 200.0
LINE_ROUND_TRIP_MS = 150.0


@dataclass
class Session:
    """The rows of one run, and where they come from."""

    rows: list[Row]
    work: Path

    def record(self, place: str, case: str, tool: Tool, figures: Figures, size: int) -> None:
        """One measured command."""
        server = tool.server
        row = {"set": place, "case": case, "tool": tool.name, "bytes": size, **asdict(figures)}
        row |= {"server_cpu": server.cpu if server else 0.0, "server_peak_mib": server.peak_mib if server else 0.0}
        row |= {"stored": tool.stored_bytes(), "load": os.getloadavg()[0]}
        row |= {"read": tool.read_bytes if isinstance(tool, Ours) and "restore" not in case else None}
        self.rows.append(row)
        print(
            f"  {place}/{case}/{tool.name}: {figures.wall:.2f} s (load {row['load']:.1f})", file=sys.stderr, flush=True
        )


def tree_bytes(source: Path) -> int:
    """Content of a folder or a file."""
    if source.is_file():
        return source.stat().st_size
    return sum(path.lstat().st_size for path in source.rglob("*") if path.is_file() and not path.is_symlink())


def warm(source: Path) -> None:
    """Read everything once, so that nobody pays for a cold page cache."""
    for path in source.rglob("*") if source.is_dir() else [source]:
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass


@contextmanager
def prepared(tools: Sequence[Tool]) -> Iterator[None]:
    """Tools with empty repositories, closed afterwards whatever happens."""
    try:
        for tool in tools:
            tool.prepare()
        yield
    finally:
        for tool in tools:
            tool.close()


def each(  # noqa: PLR0917 - always in this order
    session: Session, tools: Sequence[Tool], place: str, case: str, size: int, work: Callable[[Tool], Figures]
) -> None:
    """One case on every tool; earlier steps are written back first, so that nobody pays for another's dirty pages."""
    for tool in tools:
        os.sync()
        session.record(place, case, tool, work(tool), size)


def restore_all(session: Session, tools: Sequence[Tool], place: str, source: Path, size: int) -> None:
    """The case `restore`, each tool into its own file system."""

    def work(tool: Tool) -> Figures:
        target = tool.folder / "restored"
        figures = tool.restore(source, target)
        shutil.rmtree(target)
        return figures

    each(session, tools, place, "restore", size, work)


def run_tree(session: Session, place: str, source: Path, tools: Sequence[Tool]) -> None:
    """First, unchanged, 1 % of the files changed, restore."""
    size = tree_bytes(source)
    warm(source)
    with prepared(tools):
        for case in ("first", "unchanged", "changed 1 %"):
            if case == "changed 1 %":
                dataset.change_one_percent(source)
            each(session, tools, place, case, size, lambda tool: tool.backup(source))
        restore_all(session, tools, place, source, size)


def run_million(session: Session, place: str, source: Path, tools: Sequence[Tool]) -> None:
    """Only what shows memory: first, unchanged, restore; of this product alone."""
    mine = [tool for tool in tools if isinstance(tool, Ours)]
    size = tree_bytes(source)
    with prepared(mine):
        for case in ("first", "unchanged"):
            each(session, mine, place, case, size, lambda tool: tool.backup(source))
        restore_all(session, mine, place, source, size)
    for tool in tools:
        if tool not in mine:
            tool.close()


def run_image(session: Session, place: str, source: Path, tools: Sequence[Tool]) -> None:
    """An image: first, unchanged, 2 % dirty, and 2 % dirty with a map of what changed where a tool takes one."""
    image = source / "disk.raw"
    size = image.stat().st_size
    warm(image)
    with prepared(tools):
        each(session, tools, place, "first", size, lambda tool: tool.backup(image))
        each(session, tools, place, "unchanged", size, lambda tool: tool.backup(image))
        dataset.dirty(image, DIRTY_SHARE, 1)
        each(session, tools, place, "2 % dirty", size, lambda tool: tool.backup(image))
        changes = session.work / "changes.json"
        changes.write_text(json.dumps(dataset.dirty(image, DIRTY_SHARE, 2)))
        mine = [tool for tool in tools if isinstance(tool, Ours)]
        each(session, mine, place, "2 % dirty, map", size, lambda tool: tool.backup(image, changed=changes))  # type: ignore[call-arg]
        restore_all(session, mine, place, image, size)


def run_wan(session: Session, place: str, source: Path, tools: Sequence[Tool]) -> None:
    """Through a line of 200 Mbit/s with a round trip of 150 ms: up, and back. This product alone; over TLS."""
    [ours] = mine = [tool for tool in tools if isinstance(tool, Ours)]
    size = tree_bytes(source)
    relay = None
    for tool in tools:
        if tool is not ours:
            tool.close()
    with prepared(mine):
        try:
            command = [sys.executable, str(Path(__file__).with_name("relay.py")), "--to", f"127.0.0.1:{ours.port}"]
            command += ["--mbit", str(LINE_MBIT), "--round-trip-ms", str(LINE_ROUND_TRIP_MS)]
            relay = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert relay.stdout is not None
            ours.through(int(relay.stdout.readline()))
            each(session, mine, place, "upload", size, lambda tool: tool.backup(source))
            restore_all(session, mine, place, source, size)
        finally:
            if relay is not None:
                relay.terminate()
                relay.wait()


RUNS: dict[str, Callable[[Session, str, Path, Sequence[Tool]], None]] = {
    "mixed": run_tree,
    "small": run_tree,
    "image": run_image,
    "wan": run_wan,
    "million": run_million,
}
