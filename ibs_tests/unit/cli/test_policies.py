"""A policy from options; a plan as table, JSON and calendar."""

from __future__ import annotations

import json

import pytest

from ibs.cli.output import Output
from ibs.cli.policies import calendar_lines, policy_of, print_plan
from ibs.errors import UsageError
from ibs.wire.lifecycle import PolicyBody, PruneDecision, PruneGroup, PrunePlanView


def decision(time: str, rule: str = "") -> PruneDecision:
    return PruneDecision(
        snapshot=f"host/a/{time}", time=time, keep=bool(rule), rule=rule, period=rule and time[:10], plain_bytes=2048
    )


def plan(*decisions: PruneDecision, stopped: str = "", freed: int | None = 3 << 30) -> PrunePlanView:
    keep = sum(one.keep for one in decisions)
    group = PruneGroup(
        group="host/a",
        level="datastore",
        policy=PolicyBody(keep_daily=1),
        text="keep-daily 1 (UTC)",
        keep=keep,
        remove=len(decisions) - keep,
        stopped=stopped,
        decisions=list(decisions),
    )
    return PrunePlanView(
        groups=[group] if decisions else [],
        keep=keep,
        remove=len(decisions) - keep,
        stopped=int(bool(stopped)),
        without_policy=0,
        freed_bytes=freed,
        freed_note="" if freed is not None else "too many",
    )


SOME = (
    decision("2026-11-22T19:00:00Z", "keep-daily"),
    decision("2026-11-22T08:00:00Z"),
    decision("2026-11-21T23:30:00Z"),
    decision("2026-10-02T08:00:00Z", "keep-monthly"),
)


def test_a_policy_needs_a_rule_where_one_is_needed() -> None:
    assert policy_of((0, 0, 7, 0, 1, 0), "UTC", required=True) == PolicyBody(keep_daily=7, keep_monthly=1)
    assert policy_of((0,) * 6, "UTC", required=False) is None
    with pytest.raises(UsageError, match="no rule"):
        policy_of((0,) * 6, "UTC", required=True)
    with pytest.raises(UsageError, match="Mars"):
        policy_of((1, 0, 0, 0, 0, 0), "Mars", required=True)


def test_each_snapshot_is_shown_with_its_rule(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(plan(*SOME), Output.TEXT)
    out = capsys.readouterr().out
    assert "host/a: keep-daily 1 (UTC), set for the datastore" in out
    assert "keep      keep-daily 2026-11-22" in out
    assert out.count("no rule keeps it") == 2
    assert "2 snapshots stay, 2 would go to the bin" in out
    assert "3.0 GiB are needed by nothing else now" in out


def test_what_was_not_counted_and_what_is_left_alone_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(plan(*SOME, stopped="more than half", freed=None), Output.TEXT)
    shown = capsys.readouterr()
    assert "bytes that this would free: too many" in shown.out
    assert "warning: host/a would be left alone: more than half" in shown.err
    print_plan(plan(), Output.TEXT)
    assert "no retention is set here" in capsys.readouterr().out


def test_json_is_the_plan_itself(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(plan(*SOME), Output.JSON, calendar=True)
    found = json.loads(capsys.readouterr().out)
    assert found["groups"][0]["decisions"][0]["rule"] == "keep-daily"


def test_the_calendar_has_a_line_a_month_and_a_sign_a_day(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.plain for line in calendar_lines(SOME, "UTC")]
    assert lines[1] == "         1234567890123456789012345678901"
    assert lines[2] == "2026-11  ....................x%........."
    assert lines[3] == "2026-10  .#............................."
    vienna = [line.plain for line in calendar_lines(SOME, "Europe/Vienna")]
    assert vienna[2] == "2026-11  .....................%........."
    assert calendar_lines([], "UTC") == []
    print_plan(plan(*SOME), Output.TEXT, calendar=True)
    assert "x all removed" in capsys.readouterr().out
