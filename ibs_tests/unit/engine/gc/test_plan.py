from __future__ import annotations

import pytest

from ibs.core.ids import PLAIN_DOMAIN
from ibs.engine.gc.plan import Options, Plan, is_short
from ibs.errors import ConflictError
from ibs.ports.chunkstore import Address, Space

GIB, TIB = 1 << 30, 1 << 40


def test_the_share_is_of_all_chunks_and_one_on_the_line_passes() -> None:
    Plan(total_chunks=10, chunks=3).brake("s1", Options())
    with pytest.raises(ConflictError, match="more than 30 %") as caught:
        Plan(total_chunks=10, chunks=4).brake("s1", Options())
    assert "--allow-share 41" in caught.value.hint
    Plan(total_chunks=10, chunks=10).brake("s1", Options(share_percent=100))
    Plan().brake("s1", Options())


def test_missing_chunks_brake_before_the_share_does_and_the_first_is_named() -> None:
    missing = {Address(PLAIN_DOMAIN, bytes([7]) * 32): "host/a etc.tree"}
    plan = Plan(total_chunks=10, chunks=9, missing=missing, missing_more=4)
    with pytest.raises(ConflictError, match=r"^5 chunks that snapshots refer to.*0707.* of host/a etc.tree"):
        plan.brake("s1", Options())
    with pytest.raises(ConflictError, match="would go"):
        plan.brake("s1", Options(accept_missing=True))


@pytest.mark.parametrize(
    ("space", "short"),
    [
        (Space(TIB, 100 * GIB, 0, 0), False),
        (Space(TIB, 3 * GIB, 0, 0), True),
        (Space(20 * GIB, GIB + 1, 0, 0), False),  # a twentieth
        (Space(20 * GIB, GIB - 1, 0, 0), True),
        (Space(TIB, TIB, 1000, 49), True),
        (Space(TIB, TIB, 10**8, 200_000), False),
        (Space(TIB, TIB, 0, 0, quota_bytes_free=GIB, quota_bytes_total=TIB), True),
        (Space(TIB, TIB, 0, 0, quota_bytes_free=GIB, quota_bytes_total=2 * GIB), False),
        (Space(TIB, TIB, 0, 0, quota_inodes_free=4, quota_inodes_total=100), True),
    ],
)
def test_short_is_what_is_little_of_the_disk_or_little_at_all(space: Space, short: bool) -> None:
    assert is_short(space) is short
