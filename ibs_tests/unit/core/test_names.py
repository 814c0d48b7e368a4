"""Names: what becomes a path is parsed once and never holds a way out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ibs.core import names
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.errors import UsageError

MOMENT = datetime(2026, 11, 22, 19, 0, 0, tzinfo=UTC)
HOSTILE = ["", ".", "..", ".hidden", "-rf", "a/b", "a\\b", "a b", "a\0", "a\n", "ä", "٣", "a" * 65, "/", "a:b", "*"]


@pytest.mark.parametrize("text", ["a", "web01", "Web_01.example-x", "_", "0", "a" * 64, "a..b", "a.-"])
def test_good_names(text: str) -> None:
    assert names.check_name(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_refused_everywhere(text: str) -> None:
    with pytest.raises(UsageError, match="datastore"):
        names.check_name(text, "datastore")
    with pytest.raises(UsageError):
        Group("host", text)
    with pytest.raises(UsageError):
        Namespace((text,))
    with pytest.raises(UsageError):
        names.check_archive(f"{text}.tree")
    with pytest.raises(UsageError):
        names.check_blob_name(text)


def test_times() -> None:
    assert names.format_time(MOMENT) == "2026-11-22T19:00:00Z"
    assert names.parse_time("2026-11-22T19:00:00Z") == MOMENT
    east = MOMENT.astimezone(timezone(timedelta(hours=2)))
    assert names.format_time(east) == "2026-11-22T19:00:00Z"


@pytest.mark.parametrize(
    "text",
    ["", "2026-11-22", "2026-11-22T19:00:00", "2026-11-22T19:00:00+00:00", "2026-13-01T00:00:00Z",
     "2026-02-30T00:00:00Z", "2026-11-22T19:00:00Z\n", "2026-11-22t19:00:00z", "٢٠٢٦-11-22T19:00:00Z"],
)  # fmt: skip
def test_wrong_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="time"):
        names.parse_time(text)


def test_namespaces() -> None:
    assert Namespace.parse("") == Namespace()
    assert str(Namespace()) == ""
    assert Namespace.parse("a/b") == Namespace(("a", "b"))
    assert str(Namespace.parse("a/b")) == "a/b"
    assert str(Namespace.parse("/".join("abcdefgh"))) == "a/b/c/d/e/f/g/h"
    for wrong in ("/".join("abcdefghi"), "a//b", "/a", "a/", "a/../b"):
        with pytest.raises(UsageError):
            Namespace.parse(wrong)


def test_groups() -> None:
    assert Group.parse("host/web01") == Group("host", "web01")
    assert str(Group("vm", "100")) == "vm/100"
    for wrong in ("host", "tape/x", "host/", "/web01", "host/a/b", "HOST/a"):
        with pytest.raises(UsageError):
            Group.parse(wrong)


@pytest.mark.parametrize(
    ("text", "namespace", "group", "time"),
    [
        ("host/web01", "", "host/web01", None),
        ("host/web01/2026-11-22T19:00:00Z", "", "host/web01", MOMENT),
        ("ns:a/b/vm/100", "a/b", "vm/100", None),
        ("ns:a/b/vm/100/2026-11-22T19:00:00Z", "a/b", "vm/100", MOMENT),
        ("ns:host/host/web01", "host", "host/web01", None),
        ("ns:host/vm/ct/7/2026-11-22T19:00:00Z", "host/vm", "ct/7", MOMENT),
    ],
)
def test_snapshot_names(text: str, namespace: str, group: str, time: datetime | None) -> None:
    name = SnapshotName.parse(text)
    assert (str(name.namespace), str(name.group), name.time) == (namespace, group, time)
    assert str(name) == text


def test_a_namespace_given_beside_serves_when_the_text_names_none() -> None:
    beside = Namespace.parse("x")
    assert SnapshotName.parse("host/a", beside).namespace == beside
    assert SnapshotName.parse("ns:y/host/a", beside).namespace == Namespace.parse("y")


@pytest.mark.parametrize(
    "text",
    ["", "web01", "host", "host/web01/", "host/web01/now", "host/web01/2026-11-22T19:00:00Z/x", "ns:", "ns:a/b",
     "ns:../host/a", "../host/a", "host/..", "host/../2026-11-22T19:00:00Z", "ns:a/b/c/d/e/f/g/h/i/host/x"],
)  # fmt: skip
def test_wrong_snapshot_names_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        SnapshotName.parse(text)


def test_the_same_group_at_another_time() -> None:
    name = SnapshotName.parse("ns:a/host/web01")
    east = MOMENT.replace(microsecond=5).astimezone(timezone(timedelta(hours=-7)))
    assert str(name.at(east)) == "ns:a/host/web01/2026-11-22T19:00:00Z"


def test_archives_and_blobs() -> None:
    assert names.check_archive("etc.tree") == "etc.tree"
    assert names.archive_kind("disk.0.img") == "img"
    assert names.check_blob_name("client.log") == "client.log"
    for wrong in ("etc", "etc.tar", ".tree", "etc.tree.idx", "a/b.img"):
        with pytest.raises(UsageError, match="archive"):
            names.check_archive(wrong)
    for wrong in ("manifest.json", "manifest.sig", "state.json", "owner.json", "etc.tree.idx"):
        with pytest.raises(UsageError, match="blob name"):
            names.check_blob_name(wrong)


def test_sources() -> None:
    assert names.parse_source("etc.tree:/etc") == ("etc.tree", "/etc")
    assert names.parse_source("d.img:/dev/disk/by-id/a:b") == ("d.img", "/dev/disk/by-id/a:b")
    for wrong in ("etc.tree", "etc.tree:", ":/etc", "etc:/etc"):
        with pytest.raises(UsageError):
            names.parse_source(wrong)
