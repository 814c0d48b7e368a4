from __future__ import annotations

import msgspec
import pytest

from ibs.wire.gc import GcStart, GcStatus, GcUndo


def test_a_plain_start_is_the_careful_one() -> None:
    start = msgspec.json.decode(b"{}", type=GcStart)
    assert (start.dry_run, start.reclaim_now, start.empty_bin, start.accept_missing) == (False,) * 4
    assert (start.allow_share, start.io_limit) == (30, 0)
    assert msgspec.json.decode(b"{}", type=GcUndo).everything is False


@pytest.mark.parametrize("raw", [b'{"allow_share": 0}', b'{"allow_share": 101}', b'{"io_limit": -1}'])
def test_what_is_out_of_range_is_refused(raw: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(raw, type=GcStart)


def test_an_eta_that_is_not_known_is_null() -> None:
    assert msgspec.json.decode(msgspec.json.encode(GcStatus(store="s", state="idle")))["eta_seconds"] is None
