"""`make bench`: this product beside restic and borg on the same data in the same run.

Prints a table of seconds, MB/s, CPU, memory, size and ratios, and one of what was wanted and what came of it:

    make bench BENCH="--scale 1 --work DIR --sets mixed,small,image,wan --json FILE"
    make bench BENCH=--quick

Figures are for reading, never for asserting: machines are shared and noisy, so quote ratios from one run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import dataset
from cases import RUNS, Row, Session
from places import why_no_file_systems
from rich.console import Console
from rich.table import Table
from targets import RIVALS, Result, results
from tools import Borg, InProcess, Ours, Restic, Tool

PLACE_GIB = 48
QUICK_SCALE = 0.05


def rows_table(rows: list[Row]) -> Table:
    """One line a measured command."""
    shown = Table(title="backup and restore, everything on one machine", pad_edge=False)
    left = ("set", "case", "tool")
    right = ("s", "MB/s", "CPU s", "peak MiB", "server CPU s", "server MiB", "stored MB", "load", "ibs is")
    for column in (*left, *right):
        shown.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    ours = {(row["set"], row["case"]): row for row in rows if row["tool"] == "ibs"}
    for row in rows:
        base = ours.get((row["set"], row["case"]))
        ratio = f"{row['wall'] / base['wall']:.2f} x" if base and row is not base else ""
        cells = [row["set"], row["case"], row["tool"], f"{row['wall']:.2f}", f"{row['bytes'] / row['wall'] / 1e6:.0f}"]
        cells += [f"{row['cpu']:.1f}", f"{row['peak_mib']:.0f}"]
        server = row["server_peak_mib"] > 0
        cells += [f"{row['server_cpu']:.1f}", f"{row['server_peak_mib']:.0f}"] if server else ["", ""]
        shown.add_row(*map(str, cells), f"{row['stored'] / 1e6:.0f}", f"{row['load']:.1f}", ratio)
    return shown


def results_table(found: list[Result]) -> Table:
    """What was wanted, what was measured."""
    shown = Table(title="targets", pad_edge=False)
    for column in ("case", "what", "target", "measured", ""):
        shown.add_column(column, justify="right" if column in ("target", "measured") else "left", no_wrap=True)
    for one in found:
        shown.add_row(one.case, one.what, one.target, one.measured, "met" if one.met else "[bold]not met[/bold]")
    return shown


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="1: 4 GiB mixed, 50,000 small files, a 10 GiB image")
    parser.add_argument(
        "--quick", action="store_true", help=f"as --scale {QUICK_SCALE}: a minute or two, to try it out"
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ibs-bench")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--sets", default="mixed,small,image,wan", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--tools", default="ibs,local,restic,borg", help="local: this product without TLS and server")
    options = parser.parse_args()
    if options.quick:
        options.scale = QUICK_SCALE
    return options


def main() -> int:
    """Parse the options, run every case, print what came of it."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped and file systems unmounted
    kinds: dict[str, type[Tool]] = {"ibs": Ours, "local": InProcess, "restic": Restic, "borg": Borg}
    wanted = [name for name in options.tools.split(",") if name in kinds]
    for name in RIVALS:
        if name in wanted and shutil.which(name) is None:
            print(f"note: {name} is not installed and left out; see: make test-deps", file=sys.stderr)
            wanted.remove(name)
    options.work.mkdir(parents=True, exist_ok=True)
    reason = why_no_file_systems(options.work)
    if reason:
        print(f"note: no file system of its own for each tool ({reason}): fresh folders on one", file=sys.stderr)
    size_gib = 0 if reason else PLACE_GIB
    load = os.getloadavg()[0]
    print(f"load average {load:.1f} on {os.cpu_count()} processors before the first case", file=sys.stderr)
    sets = dataset.build(options.work / "data", options.scale, options.sets.split(","))
    session = Session([], options.work)
    for name, source in sets.items():
        places = options.work / "repositories" / name
        tools = [kinds[kind](places, size_gib=size_gib) for kind in wanted]
        try:
            RUNS[name](session, name, source, tools)
        finally:
            for tool in tools:
                tool.place.remove()
    console = Console(width=160)
    console.print(rows_table(session.rows))
    console.print("ibs: over TLS with a server, plain chunks. ibs, no TLS: its pipelines in one process, no server.")
    console.print("restic, borg: local repositories, encrypted as they are by default.")
    console.print(results_table(results(session.rows)))
    if options.scale < 1:
        console.print("Small sets: most of it is the start of programs. The targets are meant for --scale 1.")
    if options.json:
        options.json.write_text(json.dumps(session.rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
