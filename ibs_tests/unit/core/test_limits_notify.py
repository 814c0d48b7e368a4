"""The bounds fit together."""

from __future__ import annotations

from ibs.core import limits_notify


def test_a_target_that_is_ill_waits_longer_than_a_send_takes_and_keeps_more_than_one_message_holds() -> None:
    assert limits_notify.BACKOFF_SECONDS_MAX > limits_notify.SEND_SECONDS
    assert limits_notify.WAITING_MAX > limits_notify.DIGEST_MAX
    assert limits_notify.HISTORY_ROWS_MAX > limits_notify.WAITING_MAX
