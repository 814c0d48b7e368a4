"""Bounds of notifications, like those in `core.limits`. Pure; anyone may import it."""

from __future__ import annotations

TARGETS_MAX = 100
WORDS_MAX = 1000
"""Groups and rules together."""
WAITING_MAX = 10_000
"""Messages that wait for one target; the oldest of more are dropped, and the history says so."""
HISTORY_ROWS_MAX = 20_000
DIGEST_MAX = 100
"""Events in one message."""
SEND_SECONDS = 20.0
"""For each step of a delivery."""
DELIVERY_SECONDS_MAX = 120.0
"""For all steps together: a receiver that drips its answer must not hold a delivery for ever."""
PERMANENT_ATTEMPTS_MAX = 3
"""A target that says it will never take a message is asked so often, then disabled: it may have been a slip."""
DIGEST_SECONDS_MAX = 7 * 86_400
ATTEMPTS_MAX = 50
FIGURES_SECONDS_MIN = 5
SHIP_LOGS_SECONDS = 10
"""Between two messages to a target that gets log lines but no figures."""
SHIP_LOOK_SECONDS = 5.0
"""So often targets are looked at for changes."""
LINES_KEPT_MAX = 10_000
LINES_SENT_MAX = 2000
"""Log lines that wait for targets, and those in one message."""
BACKOFF_SECONDS_MAX = 3600.0
LOOK_SECONDS = 30.0
ANSWER_BYTES = 300
TEMPLATE_CHARS_MAX = 16 * 1024
PAYLOAD_CHARS_MAX = 64 * 1024
"""Of a message, in the history: the rest is cut off."""
MESSAGES_KEPT_MAX = 200
"""Messages of one target whose payload the history has."""
RECIPIENTS_MAX = 50
SPACE_LOW_PERCENT = 90
"""Of a datastore's space or inodes in use: from here on somebody is told; the shipped alert rules say the same."""
SPACE_OUT_PERCENT = 97
SPACE_MARGIN_PERCENT = 2
"""So far below a mark all is well again."""
