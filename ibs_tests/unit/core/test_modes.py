"""The rule of modes: which use each forbids, which of two facts decides, and in what words."""

from __future__ import annotations

import pytest

from ibs.core.modes import Maintenance, Mode, ModeRecord, Quarantine, Release, Use, decode, encode
from ibs.errors import DatastoreOffline, ExitStatus, FormatError, Quarantined, UnderMaintenance

SINCE = "2026-11-22T19:00:00Z"
SUSPECT = Quarantine(reason="a disk lies", since=SINCE, by="root@ibs")


def kept(mode: Mode) -> Maintenance:
    return Maintenance(mode=mode, reason="new disks", since=SINCE, by="root@ibs")


@pytest.mark.parametrize(
    ("record", "mode", "allowed"),
    [
        (ModeRecord(), Mode.NORMAL, set(Use)),
        (ModeRecord(quarantine=SUSPECT), Mode.QUARANTINED, {Use.READ, Use.VERIFY, Use.REPAIR}),
        (ModeRecord(maintenance=kept(Mode.READ_ONLY)), Mode.READ_ONLY, {Use.READ, Use.VERIFY}),
        (ModeRecord(maintenance=kept(Mode.OFFLINE)), Mode.OFFLINE, set()),
        (ModeRecord(quarantine=SUSPECT, maintenance=kept(Mode.READ_ONLY)), Mode.QUARANTINED, {Use.READ, Use.VERIFY}),
        (ModeRecord(quarantine=SUSPECT, maintenance=kept(Mode.OFFLINE)), Mode.OFFLINE, set()),
    ],
)
def test_what_each_allows(record: ModeRecord, mode: Mode, allowed: set[Use]) -> None:
    assert record.mode is mode
    assert {use for use in Use if record.allows(use)} == allowed
    assert {use for use in Use if record.refusal(use, "s1") is None} == allowed


def test_a_quarantine_refuses_with_its_reason_and_its_cure() -> None:
    refusal = ModeRecord(quarantine=SUSPECT).refusal(Use.WRITE, "ibs-primary")
    assert isinstance(refusal, Quarantined)
    assert refusal.message == "datastore ibs-primary is quarantined (a disk lies): it takes no new backups"
    assert "ironcore-backup datastore release ibs-primary --cause" in refusal.hint
    assert refusal.exit_status == ExitStatus.REFUSED


def test_maintenance_is_told_as_something_that_ends() -> None:
    refusal = ModeRecord(maintenance=kept(Mode.READ_ONLY)).refusal(Use.GC, "s1")
    assert isinstance(refusal, UnderMaintenance)
    assert refusal.exit_status == ExitStatus.UNAVAILABLE
    assert "in maintenance since 2026-11-22T19:00:00Z by root@ibs: new disks" in refusal.message
    offline = ModeRecord(maintenance=kept(Mode.OFFLINE)).refusal(Use.READ, "s1")
    assert isinstance(offline, DatastoreOffline)
    assert "datastore maintenance s1 off" in offline.hint


def test_both_are_told_by_the_one_that_forbids() -> None:
    both = ModeRecord(quarantine=SUSPECT, maintenance=kept(Mode.READ_ONLY))
    assert isinstance(both.refusal(Use.WRITE, "s1"), Quarantined)
    assert isinstance(both.refusal(Use.REPAIR, "s1"), UnderMaintenance)


def test_the_record_survives_its_bytes() -> None:
    release = Release(cause="a loose cable", time=SINCE, by="root@ibs", quarantine=SUSPECT)
    for record in (
        ModeRecord(),
        ModeRecord(quarantine=SUSPECT, maintenance=kept(Mode.OFFLINE)),
        ModeRecord(released=release),
    ):
        assert decode(encode(record)) == record
    assert decode(b"") == ModeRecord()


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b'{"quarantine":{}}',
        b'{"maintenance":{"mode":"quarantined","reason":"","since":"","by":""}}',
        b'{"maintenance":{"mode":"off","reason":"","since":"","by":""}}',
    ],
)
def test_an_unreadable_record_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="mode cannot be read"):
        decode(data)
