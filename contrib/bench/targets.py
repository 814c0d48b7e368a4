"""What this product wants to reach, looked up in the rows of one run: ratios against the better of restic and borg."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cases import LINE_MBIT

Row = dict[str, Any]
RIVALS = ("restic", "borg")
MIB = 1 << 20


@dataclass(frozen=True)
class Result:
    """One target. `met` None: not measured, or not asked for."""

    case: str
    what: str
    target: str
    measured: str
    met: bool | None


@dataclass(frozen=True)
class Wish:
    """At least `times` as fast as the better of `rivals` in one case."""

    place: str
    case: str
    times: float
    rivals: tuple[str, ...] = RIVALS


WISHES = (
    Wish("mixed", "first", 1.5, ("restic",)),
    Wish("mixed", "first", 1.0, ("borg",)),
    Wish("small", "first", 1.5, ("restic",)),
    Wish("small", "first", 1.0, ("borg",)),
    Wish("mixed", "unchanged", 2.0),
    Wish("small", "unchanged", 2.0),
    Wish("mixed", "changed 1 %", 1.5),
    Wish("small", "changed 1 %", 1.5),
    Wish("mixed", "restore", 1.5),
    Wish("small", "restore", 1.5),
    Wish("image", "first", 1.0),
    Wish("image", "2 % dirty", 1.0),
)
CLIENT_PEAK_MIB_MAX = 300
SERVER_PEAK_MIB_MAX = 400
LINE_SHARE_MIN = 0.8
MAP_SPEEDUP_MIN = 5.0


def results(rows: Sequence[Row]) -> list[Result]:
    """Every target that these rows can tell something about."""
    found = {(row["set"], row["case"], row["tool"]): row for row in rows}
    return [*_speed(found), *_effort(found), *_image(found), *_line(rows), *_memory(rows)]


def _speed(found: dict[tuple[str, str, str], Row]) -> Iterator[Result]:
    for wish in WISHES:
        ours = found.get((wish.place, wish.case, "ibs"))
        others = {name: row for name in wish.rivals if (row := found.get((wish.place, wish.case, name)))}
        if ours is None or not others:
            continue
        name, best = min(others.items(), key=lambda item: item[1]["wall"])
        ratio = best["wall"] / ours["wall"]
        yield Result(
            f"{wish.place}, {wish.case}",
            f"speed against {name}",
            f"{wish.times:.1f} x",
            f"{ratio:.2f} x",
            ratio >= wish.times,
        )


def _effort(found: dict[tuple[str, str, str], Row]) -> Iterator[Result]:
    ours, borg = found.get(("mixed", "first", "ibs")), found.get(("mixed", "first", "borg"))
    if ours and borg:
        yield Result(
            "mixed, first",
            "client core-seconds, borg's",
            f"{borg['cpu']:.1f} s",
            f"{ours['cpu']:.1f} s",
            ours["cpu"] <= borg["cpu"],
        )
    rivals = [row["stored"] for name in RIVALS if (row := found.get(("mixed", "first", name)))]
    if ours and rivals:
        best = min(rivals)
        yield Result(
            "mixed, first",
            "stored, the better of both",
            f"{best / 1e6:.0f} MB",
            f"{ours['stored'] / 1e6:.0f} MB",
            ours["stored"] <= best,
        )


def _image(found: dict[tuple[str, str, str], Row]) -> Iterator[Result]:
    read, mapped = found.get(("image", "2 % dirty", "ibs")), found.get(("image", "2 % dirty, map", "ibs"))
    if read and mapped:
        share = mapped["read"] / mapped["bytes"]
        yield Result(
            "image, 2 % dirty, map", "bytes read", "only what changed", f"{share:.1%} of the image", share < 0.15
        )
        ratio = read["wall"] / mapped["wall"]
        yield Result(
            "image, 2 % dirty, map",
            "against reading all",
            f"{MAP_SPEEDUP_MIN:.0f} x",
            f"{ratio:.1f} x",
            ratio >= MAP_SPEEDUP_MIN,
        )


def _line(rows: Sequence[Row]) -> Iterator[Result]:
    full = LINE_MBIT * 1e6 / 8
    for row in rows:
        if row["set"] == "wan":
            share = row["bytes"] / row["wall"] / full
            yield Result(
                f"wan, {row['case']}",
                "share of the line",
                f"{LINE_SHARE_MIN:.0%}",
                f"{share:.0%}",
                share >= LINE_SHARE_MIN,
            )


def _memory(rows: Sequence[Row]) -> Iterator[Result]:
    ours = [row for row in rows if row["tool"] == "ibs"]
    for what, field, bound in (
        ("client", "peak_mib", CLIENT_PEAK_MIB_MAX),
        ("server", "server_peak_mib", SERVER_PEAK_MIB_MAX),
    ):
        if ours:
            worst = max(ours, key=lambda row: row[field])
            yield Result(
                f"all; most in {worst['set']}, {worst['case']}",
                f"peak memory of the {what}",
                f"{bound} MiB",
                f"{worst[field]:.0f} MiB",
                worst[field] <= bound,
            )
