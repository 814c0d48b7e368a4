"""What is to be restored, how it goes, and how it went: the values around a restore.

Imported by the modules of `client.restore` and by `cli`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ibs.client.restore.snapshot import LastSeen
from ibs.core.keys import DataKeys
from ibs.errors import IbsError, UsageError
from ibs.restore.tree.folders import Overwrite
from ibs.wire.session import StageFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """One archive of one snapshot to one place. `snapshot` may leave the time out; `target` `-` is standard output.

    `patterns` select entries of a tree (see `restore.tree.select`). `output_fd` is written to when `target` is `-`.
    """

    store: str
    snapshot: str
    archive: str
    target: str
    patterns: tuple[str, ...] = ()
    overwrite: Overwrite = Overwrite.NEVER
    keys: DataKeys | None = field(default=None, repr=False)
    last_seen: LastSeen | None = None
    output_fd: int = 1


def overwrite_rule(text: str) -> Overwrite:
    """`never`, `if-newer` or `always`. Raises UsageError."""
    try:
        return Overwrite(text)
    except ValueError:
        raise UsageError(f"overwrite rule {text!r} is not known", hint="use never, if-newer or always") from None


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """Bytes are of file or image content; `total_bytes` 0 when not known (restores by pattern)."""

    done_bytes: int
    total_bytes: int
    entries: int
    stages: Mapping[str, StageFigures]


ProgressSink = Callable[[RestoreProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOutcome:
    """How a restore ended that did not fail. `status` is OK or WARNING; `report` is JSON, `lines` is for people."""

    snapshot: str
    archive: str
    target: str
    status: str
    warnings: int
    signed_by: str
    sequence: int
    manifest_digest: str
    upid: str
    seconds: float
    plain_bytes: int
    stages: Mapping[str, StageFigures]
    report: Mapping[str, Any]
    lines: tuple[str, ...] = ()


def first_error(error: BaseException) -> BaseException:
    """What to tell of an exception group from nested tasks: our own error first, then any other that is not a
    cancellation, then the cancellation."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = list(_leaves(error))
    for wanted in (IbsError, Exception, BaseException):
        for leaf in leaves:
            if isinstance(leaf, wanted):
                return leaf
    return error


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
