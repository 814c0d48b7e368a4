"""Facts that happened, as they travel on the bus: frozen, versioned, JSON all through.

Pure; made by any role, listened to by notifications, metrics, audit and the inbox. An event is never a command: nothing
waits for it, and nothing breaks when nobody listens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from ibs.core import limits
from ibs.errors import UsageError

EVENT_VERSION: Final = 1
_KIND: Final = re.compile(r"[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)*", re.ASCII)

JsonScalar = str | int | float | bool | None


class EventSource(StrEnum):
    """What an event is about; notification rules choose by it. `gc` and `prune` report as datastore."""

    BACKUP = "backup"
    RESTORE = "restore"
    SYNC = "sync"
    VERIFY = "verify"
    DATASTORE = "datastore"
    TAPE = "tape"
    AUTHENTICATION = "authentication"
    CONFIGURATION = "configuration"
    SYSTEM = "system"


class Severity(StrEnum):
    """How much it matters, mildest first; compare by `rank`."""

    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for info up to 4 for critical."""
        return _RANKS[self]


_RANKS: Final = {severity: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Event:
    """One fact.

    `time` is aware; `kind` is dotted lower case such as `datastore.offline`, stable for programs; `text` is one
    sentence for people; `fields` are JSON scalars under snake_case names, never secrets.
    Raises UsageError for values that do not fit.
    """

    time: datetime
    source: EventSource
    severity: Severity
    kind: str
    text: str
    fields: Mapping[str, JsonScalar] = field(default_factory=dict, hash=False)
    version: int = EVENT_VERSION

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "source", EventSource(self.source))
            object.__setattr__(self, "severity", Severity(self.severity))
        except ValueError as error:
            raise UsageError(f"event: {error}") from error
        if self.time.tzinfo is None:
            raise UsageError("event: its time has no zone")
        if not _KIND.fullmatch(self.kind):
            raise UsageError(f"event: kind {self.kind!r} is not dotted lower case")
        if not self.text or len(self.text) > limits.EVENT_TEXT_CHARS_MAX:
            raise UsageError(f"event {self.kind}: its text must have 1 to {limits.EVENT_TEXT_CHARS_MAX} characters")
        if len(self.fields) > limits.EVENT_FIELDS_MAX:
            raise UsageError(f"event {self.kind}: more than {limits.EVENT_FIELDS_MAX} fields")
        for name, value in self.fields.items():
            if not isinstance(name, str) or not isinstance(value, str | int | float | None):
                raise UsageError(f"event {self.kind}: field {name!r} is no JSON scalar")
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"event {self.kind}: field {name!r} is no number that JSON knows")
        # A copy behind a proxy: whoever made the event can no longer change it under its listeners.
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))

    def to_json(self) -> dict[str, Any]:
        """The event as JSON types; time RFC 3339 UTC, in microseconds."""
        moment = self.time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {
            "version": self.version,
            "time": moment,
            "source": str(self.source),
            "severity": str(self.severity),
            "kind": self.kind,
            "text": self.text,
            "fields": dict(self.fields),
        }
