"""How full a datastore is, in steps and words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ibs.core import limits_notify
from ibs.ports.chunkstore import Space
from ibs.services.fullness import Fullness, look

FINE, LOW, OUT = Fullness
GIB = 1 << 30
EMPTY = Space(bytes_total=100 * GIB, bytes_free=100 * GIB, inodes_total=1000, inodes_free=1000)
QUOTA = replace(
    EMPTY, quota="project 77", quota_bytes_total=GIB, quota_bytes_free=GIB, quota_inodes_total=10, quota_inodes_free=10
)


@pytest.mark.parametrize(
    ("before", "free", "now"),
    [
        (FINE, 11, FINE),
        (FINE, 10, LOW),
        (LOW, 11, LOW),  # at the mark it stays as it was
        (LOW, 13, FINE),
        (LOW, 4, LOW),
        (LOW, 3, OUT),
        (OUT, 4, OUT),
        (OUT, 6, LOW),
        (FINE, 0, OUT),
        (OUT, 100, FINE),
    ],
)
def test_steps_are_left_well_below_where_they_are_entered(before: Fullness, free: int, now: Fullness) -> None:
    assert look(replace(EMPTY, bytes_free=free * GIB), before)[0] is now


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (replace(EMPTY, bytes_free=5 * GIB), "95 % of its file system are used, 5.0 GiB are free"),
        (replace(EMPTY, inodes_free=50), "95 % of the inodes of its file system are used, 50 are free"),
        (replace(QUOTA, quota_bytes_free=GIB // 20), "95 % of the quota of project 77 are used, 51.2 MiB are free"),
        (replace(QUOTA, quota_inodes_free=1), "90 % of the inodes of the quota of project 77 are used, 1 are free"),
    ],
)
def test_the_scarcest_decides_and_is_named(space: Space, words: str) -> None:
    assert look(space, FINE) == (LOW, words)


def test_file_systems_without_a_fixed_number_of_inodes_and_odd_figures() -> None:
    assert look(replace(EMPTY, inodes_total=0, inodes_free=0), FINE)[0] is FINE
    assert look(Space(bytes_total=0, bytes_free=0, inodes_total=0, inodes_free=0), LOW) == (FINE, "nothing limits it")
    assert look(replace(EMPTY, bytes_free=200 * GIB), FINE)[0] is FINE


def test_the_shipped_alert_rules_have_the_same_marks() -> None:
    rules = yaml.safe_load((Path(__file__).parents[3] / "contrib" / "prometheus" / "alerts.yml").read_text())
    asked = {one.get("alert"): str(one["expr"]) for group in rules["groups"] for one in group["rules"]}
    assert asked["IronBackupSpaceLow"].endswith(f"> {limits_notify.SPACE_LOW_PERCENT / 100}")
    assert asked["IronBackupSpaceOut"].endswith(f"> {limits_notify.SPACE_OUT_PERCENT / 100}")
