from __future__ import annotations

from ibs.core import limits, limits_sync
from ibs.security.tokens import new_secret


def test_our_own_tokens_fit() -> None:
    assert len(new_secret(lambda count: b"x" * count)) < limits_sync.REMOTE_SECRET_CHARS_MAX


def test_a_request_never_asks_for_more_than_one_answer_holds() -> None:
    assert limits_sync.PULL_BATCH_CHUNKS <= limits.FETCH_IDS_MAX
    assert limits_sync.PULL_BATCH_CHUNKS * limits.CHUNK_BODY_BYTES_MAX <= limits.FETCH_ANSWER_BYTES_MAX
