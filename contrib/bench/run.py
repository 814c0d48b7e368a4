"""`make bench`: this product beside restic and borg on the same data in the same run.

Prints one table of seconds, MB/s, CPU, memory, size and ratios:

    make bench BENCH="--scale 1 --work DIR --json FILE"

Figures are for reading, never for asserting: machines are shared and noisy, so quote ratios from one run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import dataset
from rich.console import Console
from rich.table import Table
from tools import Borg, Figures, Ours, Restic, Tool

Row = dict[str, object]


def tree_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def settle() -> None:
    """Write back what earlier steps left, so that nobody pays for another's dirty pages."""
    os.sync()


def run_set(name: str, source: Path, tools: list[Tool], work: Path) -> list[Row]:
    """All cases of one data set on each tool, case by case in turn so that drift of the machine hits all alike."""
    rows: list[Row] = []
    size = tree_bytes(source)
    for path in source.rglob("*"):  # warm the page cache for everybody alike
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass

    def record(case: str, tool: Tool, figures: Figures) -> None:
        server = tool.server
        rows.append(
            {"set": name, "case": case, "tool": tool.name, "bytes": size, **asdict(figures)}
            | {"server_cpu": server.cpu if server else 0.0, "server_peak_mib": server.peak_mib if server else 0.0}
            | {"stored": tool.stored_bytes()}
        )
        print(f"  {name}/{case}/{tool.name}: {figures.wall:.2f} s", file=sys.stderr, flush=True)

    for tool in tools:
        tool.prepare()
    for case in ("first", "unchanged", "changed 1 %"):
        if case == "changed 1 %":
            dataset.change_one_percent(source)
        for tool in tools:
            settle()
            record(case, tool, tool.backup(source))
    for tool in tools:
        target = work / "restored"
        settle()
        record("restore", tool, tool.restore(target))
        shutil.rmtree(target)
    for tool in tools:
        tool.close()
    return rows


def table(rows: list[Row]) -> Table:
    shown = Table(title="backup and restore, two cores, everything on one machine", pad_edge=False)
    for column in (
        "set",
        "case",
        "tool",
        "s",
        "MB/s",
        "CPU s",
        "peak MiB",
        "server CPU s",
        "server MiB",
        "stored MB",
        "ibs is",
    ):
        shown.add_column(column, justify="left" if column in ("set", "case", "tool") else "right")
    ours = {(row["set"], row["case"]): row for row in rows if row["tool"] == "ibs"}
    for row in rows:
        base = ours.get((row["set"], row["case"]))
        ratio = f"{row['wall'] / base['wall']:.2f} x" if base and row is not base else ""
        cells = [row["set"], row["case"], row["tool"], f"{row['wall']:.2f}", f"{row['bytes'] / row['wall'] / 1e6:.0f}"]
        cells += [
            f"{row['cpu']:.1f}",
            f"{row['peak_mib']:.0f}",
            f"{row['server_cpu']:.1f}",
            f"{row['server_peak_mib']:.0f}",
        ]
        shown.add_row(*map(str, cells), f"{row['stored'] / 1e6:.0f}", ratio)
    return shown


def main() -> int:
    """Parse the options, run every case, print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1 is about 4 GiB mixed and 50,000 small files")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ibs-bench")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--sets", default="mixed,small")
    options = parser.parse_args()
    missing = [name for name in ("restic", "borg") if shutil.which(name) is None]
    if missing:
        print(f"error: {', '.join(missing)} not found\nhint: make test-deps", file=sys.stderr)
        return 1
    sets = dataset.build(options.work / "data", options.scale)
    rows: list[Row] = []
    for name in options.sets.split(","):
        tools: list[Tool] = [kind(options.work / "repositories" / name) for kind in (Ours, Restic, Borg)]
        rows += run_set(name, sets[name], tools, options.work)
    Console(width=150).print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
