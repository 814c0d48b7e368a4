"""Run seeds: `python -m ibs_tests.sim --seed N [--trace]` replays one, `--seeds A..B` runs many and sums them up.

Exit status 1 when a promise was broken; the last line of the trace names it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence

from ibs_tests.sim.mutants import MUTANTS
from ibs_tests.sim.world import STEPS, Outcome, run


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m ibs_tests.sim", description="simulate the backup server by seeds")
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--seeds", metavar="A..B", help="run these, both included")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"errands in each world (default {STEPS})")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="break the product in this way first")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    options = parser.parse_args(arguments)
    if (options.seed is None) == (options.seeds is None):
        parser.error("give --seed N or --seeds A..B")
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets must be the seed's as well
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "ibs_tests.sim", *(arguments or sys.argv[1:])])
    if options.seed is not None:
        seeds: Iterable[int] = [options.seed]
    else:
        first, _, last = options.seeds.partition("..")
        seeds = range(int(first), int(last) + 1)
    breaking = MUTANTS[options.mutant] if options.mutant else None
    totals: Counter[str] = Counter()
    broken: list[Outcome] = []
    number = 0
    for seed in seeds:
        number += 1
        outcome = run(seed, steps=options.steps, mutant=breaking)
        totals.update(outcome.counts)
        if outcome.violation:
            broken.append(outcome)
            print(f"seed {seed}: {outcome.violation}", file=sys.stderr)
        if options.trace:
            print("\n".join(outcome.trace))
            print(f"digest {outcome.digest}")
        if outcome.violation and breaking is not None:
            break
    if options.output == "json":
        print(json.dumps({"seeds": number, "counts": totals, "broken": {one.seed: one.violation for one in broken}}))
    elif options.seeds is not None:
        print(summary(number, totals))
    if broken and options.output == "text":
        print(f"{len(broken)} of {number} seeds broke a promise")
        print(f"replay: python -m ibs_tests.sim --seed {broken[0].seed} --steps {options.steps} --trace")
    return 1 if broken else 0


def summary(seeds: int, totals: Counter[str]) -> str:
    """What the runs covered."""
    lines = [f"{seeds} seeds"]
    for title, prefix in (
        ("errands", "action "),
        ("ends of the process", "era."),
        ("what came of it", ""),
        ("died at", "died at "),
        ("points passed", "point "),
        ("faults of the disk", "fault "),
        ("refused", "refused "),
        ("checks of the model", "check "),
    ):
        rows = _rows(totals, prefix)
        lines.append(f"\n{title}")
        lines += [f"  {count:9d}  {name}" for name, count in rows]
    return "\n".join(lines)


_PREFIXES = ("action ", "era.", "died at ", "point ", "fault ", "refused ", "check ")


def _rows(totals: Counter[str], prefix: str) -> list[tuple[str, int]]:
    if prefix:
        found = [(name.removeprefix(prefix), count) for name, count in totals.items() if name.startswith(prefix)]
    else:
        found = [(name, count) for name, count in totals.items() if not name.startswith(_PREFIXES)]
    return sorted(found)


if __name__ == "__main__":
    sys.exit(main())
