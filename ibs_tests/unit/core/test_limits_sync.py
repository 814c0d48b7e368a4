from __future__ import annotations

from ibs.core import limits_sync
from ibs.security.tokens import new_secret


def test_our_own_tokens_fit() -> None:
    assert len(new_secret(lambda count: b"x" * count)) < limits_sync.REMOTE_SECRET_CHARS_MAX
