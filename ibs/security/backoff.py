"""How long somebody must wait after wrong passwords: nothing for the first few, then twice as long each time.

Used by `security.logins`, for users and for addresses, which also keeps the counts in the catalog and gives them back
after a restart (`recall`). Bounded: who was quiet longest is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from ibs.core import limits, limits_access
from ibs.ports.clock import Clock


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Backoff:
    """`free` failures cost nothing; after that the wait doubles up to LOGIN_WAIT_SECONDS_MAX."""

    def __init__(self, clock: Clock, free: int) -> None:
        self._clock = clock
        self._free = free
        self._seen: OrderedDict[str, _Failures] = OrderedDict()

    def wait(self, key: str) -> float:
        """Seconds until another attempt is looked at; 0 when it is now."""
        seen = self._seen.get(key)
        if seen is None or seen.count < self._free:
            return 0.0
        pause = min(2.0 ** min(seen.count - self._free, 30), limits_access.LOGIN_WAIT_SECONDS_MAX)
        return max(seen.last + pause - self._clock.monotonic(), 0.0)

    def failed(self, key: str) -> int:
        """Note a failure; how many there are."""
        now = self._clock.monotonic()
        seen = self._seen.get(key)
        if seen is None or now - seen.last > limits_access.LOGIN_FORGET_SECONDS:
            seen = self._seen[key] = _Failures(0, now)
        seen.count += 1
        seen.last = now
        self._seen.move_to_end(key)
        while len(self._seen) > limits.AUTH_PEERS_MAX:
            self._seen.popitem(last=False)
        return seen.count

    def recall(self, key: str, count: int, seconds_ago: float) -> None:
        """Take over what was noted before a restart; in the order of time. Too old is passed over.

        A clock that was set back meanwhile never shortens a wait: then the failure counts as one of just now.
        """
        ago = max(seconds_ago, 0.0)
        if ago <= limits_access.LOGIN_FORGET_SECONDS:
            self._seen[key] = _Failures(count, self._clock.monotonic() - ago)
            while len(self._seen) > limits.AUTH_PEERS_MAX:
                self._seen.popitem(last=False)

    def forget(self, key: str) -> bool:
        """Somebody got in; whether there was anything to forget."""
        return self._seen.pop(key, None) is not None
