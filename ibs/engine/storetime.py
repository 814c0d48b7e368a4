"""The clock of a store: seconds that only ever count what is known to have passed (PROTOCOLS 14).

Used by all of `engine` as `StoreContext.time`: bin and trash grace and retention locks go by it, never by the wall
clock. It starts at the wall clock's time when a store is first used, counts by the machine's monotone clock while a
server runs, and is kept in the store (`.ibs/clock.json`), so it never goes back. Between two runs it believes the same
boot's monotone clock; after another boot it believes the wall clock, up to an hour. Whenever the wall clock has moved
over an hour away from what was counted, either way, it stands still, and with it everything that expires, until an
administrator confirms that the wall clock is right.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from ibs.core import limits
from ibs.core.names import format_time
from ibs.errors import DatastoreReadOnly, FailedError, FormatError, NoSpace
from ibs.ports.clock import Clock
from ibs.storage.local.records import CLOCK
from ibs.units import format_duration


class ClockRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`.ibs/clock.json` (contrib/docs/formats.md). `offset`: wall clock less store clock when last believed, seconds.

    `monotonic` was the machine's clock in that moment, of the boot `boot`. `frozen` says why it stands still.
    """

    seconds: int
    offset: int = 0
    boot: str = ""
    monotonic: float = 0.0
    frozen: str = ""
    confirmed: str = ""
    confirmed_by: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """The machine's clocks at one instant: `wall` in seconds since the epoch, `monotonic` of the boot `boot`."""

    wall: int
    monotonic: float
    boot: str


def begin(moment: Moment) -> ClockRecord:
    """The clock of a store that never had one."""
    return ClockRecord(seconds=moment.wall, boot=moment.boot, monotonic=moment.monotonic)


def advance(record: ClockRecord, moment: Moment) -> ClockRecord:
    """The record at a later instant: more seconds, or frozen with the reason. It never counts less than before."""
    if record.frozen:
        return msgspec.structs.replace(record, boot=moment.boot, monotonic=moment.monotonic)
    same_boot = bool(record.boot) and record.boot == moment.boot and moment.monotonic >= record.monotonic
    passed = int(moment.monotonic - record.monotonic) if same_boot else 0
    away = moment.wall - record.offset - (record.seconds + passed)
    if abs(away) > limits.CLOCK_JUMP_SECONDS_MAX:
        return msgspec.structs.replace(
            record,
            # What the monotone clock counted did pass, whatever the wall clock says.
            seconds=record.seconds + passed,
            boot=moment.boot,
            monotonic=moment.monotonic,
            frozen=_reason(away, moment, same_boot=same_boot),
        )
    if not same_boot:
        passed = max(away, 0)
    # The fraction of a second that was not counted stays to be counted.
    monotonic = record.monotonic + passed if same_boot else moment.monotonic
    return msgspec.structs.replace(record, seconds=record.seconds + passed, boot=moment.boot, monotonic=monotonic)


def confirm(record: ClockRecord, moment: Moment, by: str) -> ClockRecord:
    """The wall clock is right, says `by`: go on from it, or from here when it is behind."""
    seconds = max(record.seconds, moment.wall)
    return ClockRecord(
        seconds=seconds,
        offset=moment.wall - seconds,
        boot=moment.boot,
        monotonic=moment.monotonic,
        confirmed=format_time(datetime.fromtimestamp(moment.wall, UTC)),
        confirmed_by=by,
    )


def _reason(away: int, moment: Moment, *, same_boot: bool) -> str:
    seen = format_time(datetime.fromtimestamp(moment.wall, UTC))
    if away > 0 and not same_boot:
        return f"the machine was off for {format_duration(away)}, or its clock was set forward; it says {seen}"
    way = "ahead of" if away > 0 else "behind"
    return f"the clock of the machine jumped: it says {seen}, {format_duration(abs(away))} {way} what has passed"


def decode(data: bytes) -> ClockRecord | None:
    """From its JSON; None when there is none. Raises FormatError."""
    if not data:
        return None
    try:
        return msgspec.json.decode(data, type=ClockRecord)
    except msgspec.MsgspecError as error:
        raise FormatError(f"the datastore's {CLOCK} cannot be read: {error}") from error


class Records(Protocol):
    """What is needed of `LocalStore.records`."""

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, data: bytes) -> None: ...


class StoreTime:
    """Thread-safe. `now` and `frozen` cost nothing; `load`, `keep` and `confirm` write to the store: from the pool."""

    def __init__(self, records: Records, clock: Clock, boot: str) -> None:
        """`boot` names the machine's boot, "" when it cannot be told. Call `load` before anything else."""
        self._records = records
        self._clock = clock
        self._boot = boot
        self._lock = threading.Lock()
        self._keeping = threading.Lock()
        self._record = begin(self._moment())
        self._kept: ClockRecord | None = None

    def load(self) -> None:
        """Read what was kept; begin where there is nothing. A record that cannot be read freezes the clock.

        A beginning is kept at once, where the store takes writes: what is dated by a clock that begins a second time
        would have all the time in between behind it, and a jump of the wall clock with it. Raises DatastoreOffline.
        """
        try:
            kept = decode(self._records.read(CLOCK))
        except FormatError as error:
            kept = msgspec.structs.replace(begin(self._moment()), frozen=error.message)
        with self._lock:
            self._record = begin(self._moment()) if kept is None else advance(kept, self._moment())
        if kept is None:
            with contextlib.suppress(DatastoreReadOnly, NoSpace, FailedError):  # who dates something keeps it again
                self.keep()

    def now(self) -> int:
        """Seconds of the store's clock. Never less than it ever said, also before a crash, if `keep` was called."""
        with self._lock:
            self._record = advance(self._record, self._moment())
            return self._record.seconds

    @property
    def frozen(self) -> str:
        """Why the clock stands still and nothing expires; empty while it runs."""
        self.now()
        return self._record.frozen

    @property
    def record(self) -> ClockRecord:
        """As it is now."""
        self.now()
        return self._record

    def wall(self, seconds: int) -> datetime:
        """When the wall clock will show, or showed, that time of the store's clock, as things look now."""
        return datetime.fromtimestamp(self._moment().wall + seconds - self.now(), UTC)

    def keep(self) -> int:
        """As `now`, and it is not forgotten. Raises what writing raises. *Durability*: durable when it returns."""
        with self._keeping:  # so that an older reading never replaces a newer one
            record = self.record
            self._records.write(CLOCK, msgspec.json.encode(record) + b"\n")
            self._kept = record
        return record.seconds

    def keep_sometimes(self) -> bool:
        """Keep it when it froze or thawed, or CLOCK_KEEP_SECONDS after the last time. True when it has just frozen."""
        now, kept = self.record, self._kept
        froze = bool(now.frozen) and (kept is None or not kept.frozen)
        if kept is None or froze or now.seconds - kept.seconds >= limits.CLOCK_KEEP_SECONDS:
            self.keep()
        return froze

    def confirm(self, by: str) -> ClockRecord:
        """The wall clock is right: the store's clock follows it from here on. *Durability*: durable when it returns."""
        with self._lock:
            self._record = record = confirm(self._record, self._moment(), by)
        self.keep()
        return record

    def _moment(self) -> Moment:
        return Moment(self._clock.now_ns() // 1_000_000_000, self._clock.monotonic(), self._boot)
