"""UPIDs: whatever is written parses back, and whatever parses was written so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ibs.core.access import AuthId
from ibs.core.tasks import TaskType
from ibs.core.upid import Upid, escape_id, unescape_id
from ibs.errors import UsageError

NUMBERS = st.integers(0, 2**64 - 1)
NAMES = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,20}\Z")
IDS = st.text(max_size=40).filter(str.isprintable)
UPIDS = st.builds(
    Upid,
    node=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9.-]{0,20}\Z"),
    pid=NUMBERS,
    process_start=NUMBERS,
    task_number=NUMBERS,
    started=NUMBERS,
    type=st.sampled_from(TaskType),
    id=IDS,
    auth_id=st.builds(AuthId, NAMES, NAMES, st.none() | NAMES),
)


@given(UPIDS)
def test_round_trip(upid: Upid) -> None:
    text = str(upid)
    assert Upid.parse(text) == upid
    assert text.isascii()
    assert text.count(":") == 10 - 1


@given(UPIDS, st.data())
def test_one_text_for_one_value(upid: Upid, data: st.DataObject) -> None:
    text = str(upid)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.text(max_size=2)) + text[at + data.draw(st.integers(0, 2)) :]
    try:
        parsed = Upid.parse(changed)
    except UsageError:
        return
    assert str(parsed) == changed


@given(IDS)
def test_ids_are_escaped_and_back(text: str) -> None:
    assert unescape_id(escape_id(text)) == text
    assert not set(escape_id(text)) & set("/:\\% \"'$&;|")
