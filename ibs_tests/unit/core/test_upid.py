"""UPIDs: one text for one task."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.core import limits
from ibs.core.access import AuthId
from ibs.core.tasks import TaskType
from ibs.core.upid import Upid, escape_id, unescape_id
from ibs.errors import UsageError

TEXT = "UPID:backup1:0000C4F3:04F3B6A0:00000003:6922AA11:backup:ibs-primary=3Ahost=2Fweb01:root@ibs!cli:"
UPID = Upid(
    node="backup1",
    pid=0xC4F3,
    process_start=0x4F3B6A0,
    task_number=3,
    started=0x6922AA11,
    type=TaskType.BACKUP,
    id="ibs-primary:host/web01",
    auth_id=AuthId("root", "ibs", "cli"),
)


def test_it_is_written_and_read() -> None:
    assert str(UPID) == TEXT
    assert Upid.parse(TEXT) == UPID


def test_numbers_grow_when_they_must() -> None:
    text = TEXT.replace("0000C4F3", "123456789A").replace("00000003", "FFFFFFFFFFFFFFFF")
    upid = Upid.parse(text)
    assert (upid.pid, upid.task_number) == (0x123456789A, 2**64 - 1)
    assert str(upid) == text


def test_ids_may_be_empty_or_hold_anything_printable() -> None:
    for text in ("", "a b", "größe", "100%=all", "日本"):
        assert unescape_id(escape_id(text)) == text
    assert escape_id("a/b é") == "a=2Fb=20=C3=A9"
    assert Upid.parse(TEXT.replace("ibs-primary=3Ahost=2Fweb01", "")).id == ""


@pytest.mark.parametrize(
    "text",
    [
        "", "UPID", "UPID:", ":" * 9, TEXT[:-1], TEXT + ":", TEXT + "x", " " + TEXT, TEXT + "\n",
        TEXT.replace("UPID", "upid"),
        TEXT.replace("backup1", ""), TEXT.replace("backup1", "a_b"), TEXT.replace("backup1", "-a"),
        TEXT.replace("backup1", "a" * 64), TEXT.replace("backup1", "é"),
        TEXT.replace("0000C4F3", "C4F3"), TEXT.replace("0000C4F3", "0000c4f3"), TEXT.replace("0000C4F3", "00000C4F3"),
        TEXT.replace("0000C4F3", "0x00C4F3"), TEXT.replace("0000C4F3", "+000C4F3"),
        TEXT.replace("0000C4F3", "0000C4F_"),
        TEXT.replace("0000C4F3", "1" * 17), TEXT.replace("0000C4F3", "0000C4F\u0663"), TEXT.replace("0000C4F3", ""),
        TEXT.replace(":backup:", ":mystery:"), TEXT.replace(":backup:", ":BACKUP:"), TEXT.replace(":backup:", "::"),
        TEXT.replace("=3A", "=3a"), TEXT.replace("=3A", "=3"), TEXT.replace("=3A", "/"), TEXT.replace("=3A", "%3A"),
        TEXT.replace("=3A", "=FF"), TEXT.replace("=3A", "=41"), TEXT.replace("=3A", "=0A"), TEXT.replace("=3A", "=00"),
        TEXT.replace("root@ibs!cli", "root"), TEXT.replace("root@ibs!cli", ""),
        TEXT.replace("root@ibs!cli", "root@ibs!"),
        TEXT.replace("root@ibs!cli", "root@ibs!a!b"),
        "UPID:" + "A" * limits.UPID_CHARS_MAX,
    ],
)  # fmt: skip
def test_junk_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Upid.parse(text)


@pytest.mark.parametrize(
    "change",
    [
        {"node": ""}, {"node": "a:b"}, {"pid": -1}, {"task_number": 2**64}, {"started": -5}, {"id": "a\nb"},
        {"id": "\ud800"}, {"id": "x" * (limits.TASK_ID_BYTES_MAX + 1)},
    ],
)  # fmt: skip
def test_values_that_could_not_be_written_are_refused(change: dict[str, Any]) -> None:
    values = {name: getattr(UPID, name) for name in Upid.__dataclass_fields__}
    with pytest.raises(UsageError):
        Upid(**{**values, **change})


def test_the_longest_id_still_parses() -> None:
    values = {name: getattr(UPID, name) for name in Upid.__dataclass_fields__}
    upid = Upid(**{**values, "id": "/" * limits.TASK_ID_BYTES_MAX})
    assert Upid.parse(str(upid)) == upid
