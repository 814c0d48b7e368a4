"""Names: whatever is accepted is written back as it was, and is safe as a path."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ibs.core import names
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.errors import UsageError

NAME = st.one_of(st.sampled_from(["host", "vm", "ct", "ns", "a"]), st.from_regex(names._NAME, fullmatch=True))
MOMENT = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
SNAPSHOT = st.builds(
    SnapshotName,
    st.lists(NAME, max_size=8).map(lambda parts: Namespace(tuple(parts))),
    st.builds(Group, st.sampled_from(names.BACKUP_TYPES), NAME),
    st.one_of(st.none(), MOMENT),
)
# Text around the edge of what is valid.
ODD = st.text(st.sampled_from("ab0-._/:@\\ \0\n\x7fé٣Z:THns"), max_size=40)
TEXT = st.one_of(ODD, st.text(max_size=80), st.builds("ns:{}/host/{}".format, ODD, ODD), st.builds("vm/{}".format, ODD))


@given(name=SNAPSHOT)
def test_every_snapshot_name_round_trips(name: SnapshotName) -> None:
    assert SnapshotName.parse(str(name)) == name


@given(moment=MOMENT)
def test_times_round_trip(moment: datetime) -> None:
    assert names.parse_time(names.format_time(moment)) == moment


def safe(component: str) -> bool:
    return (
        component.isascii()
        and component.isprintable()
        and 0 < len(component) <= 64
        and not set(component) & set("/\\ :\0")
        and component[0] not in ".-"
    )


@given(text=TEXT)
def test_whatever_is_accepted_is_safe(text: str) -> None:
    for parse in (
        names.check_name,
        names.check_archive,
        names.check_blob_name,
        names.archive_kind,
        names.parse_time,
        names.parse_source,
        Namespace.parse,
        Group.parse,
        SnapshotName.parse,
    ):
        try:
            value = parse(text)
        except UsageError:
            continue
        parts: tuple[str, ...] = ()
        if isinstance(value, SnapshotName):
            parts = (*value.namespace.parts, value.group.backup_id)
            assert SnapshotName.parse(str(value)) == value
        elif isinstance(value, Group):
            parts = (value.backup_type, value.backup_id)
        elif isinstance(value, Namespace):
            parts = value.parts
        elif isinstance(value, tuple):
            parts = value[:1]
        elif isinstance(value, str):
            parts = (value,)
        assert all(safe(part) for part in parts)
