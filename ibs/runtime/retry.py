"""Tries again after failures that may pass: exponential back-off, bounded in number and length, with jitter.

Used by whoever talks to something that can be away. Jitter comes from entropy that is handed in, so that a seed
repeats its run and many clients do not come back at the same moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ibs.errors import IbsError, Retry
from ibs.ports.clock import Clock

T = TypeVar("T")
Entropy = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Backoff:
    """At most `attempts` tries; pauses grow from `seconds_min` by `factor` to `seconds_max`; half of each is jitter."""

    attempts: int = 5
    seconds_min: float = 0.5
    seconds_max: float = 30.0
    factor: float = 2.0

    def pauses(self, entropy: Entropy) -> Iterator[float]:
        """The pause after each failed try but the last: between half and the whole of the step."""
        step = self.seconds_min
        for _ in range(self.attempts - 1):
            share = int.from_bytes(entropy(4), "big") / 0xFFFFFFFF
            yield step * (0.5 + share / 2)
            step = min(step * self.factor, self.seconds_max)


def may_pass(error: Exception) -> bool:
    """Errors of ours that say themselves that a repetition can help."""
    return isinstance(error, IbsError) and error.retry is not Retry.NEVER


async def retry(
    work: Callable[[], Awaitable[T]],
    *,
    clock: Clock,
    entropy: Entropy,
    backoff: Backoff | None = None,
    when: Callable[[Exception], bool] = may_pass,
    on_failure: Callable[[Exception, float], None] = lambda _error, _pause: None,
) -> T:
    """Call `work` until it succeeds, `when` says no, or the tries are used up; then its last error is raised.

    `on_failure` is told each error that will be tried again, and the pause in seconds before that.
    """
    for pause in (backoff or Backoff()).pauses(entropy):
        try:
            return await work()
        except Exception as error:
            if not when(error):
                raise
            on_failure(error, pause)
        await clock.sleep(pause)
    return await work()
