"""The audit log's lines and the chain that joins them (contrib/docs/formats.md). Pure; imported by `services.audit`.

A line is compact JSON whose last field is `hash`: BLAKE3-256 of the previous line's hash (32 zero bytes before the
first) followed by the line's own bytes without that field. Invariant: what is checked are the stored bytes, never a
re-encoding, so a program that knows more fields breaks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec
from blake3 import blake3

from ibs.core import limits
from ibs.errors import FormatError

FIRST: Final = bytes(32)
_TAIL: Final = b',"hash":"'
_TAIL_BYTES: Final = len(_TAIL) + 64 + 2


class Outcome(StrEnum):
    """What came of it. `cut off`: the caller went away, or the server stopped, before the end was known."""

    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"
    CUT_OFF = "cut off"


class AuditRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change or refusal. `n` counts from 1; `count` is how many like it this row stands for.

    `before` and `after` hold no secrets; `after` of a change whose handler says nothing is what was asked for.
    """

    n: int
    time: str
    auth_id: str
    peer: str
    action: str
    target: str
    outcome: str
    code: str = ""
    message: str = ""
    count: int = 1
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True)
class Link:
    """A line of the chain as the next one builds on it."""

    n: int
    hash: bytes


BEGIN: Final = Link(0, FIRST)


def encode(row: AuditRow, previous: Link) -> tuple[bytes, Link]:
    """The line of `row` (newline included) and its link. `row.n` must follow `previous.n`."""
    body = msgspec.json.encode(row)
    digest = blake3(previous.hash + body).digest()
    return body[:-1] + _TAIL + digest.hex().encode() + b'"}\n', Link(row.n, digest)


def decode(line: bytes) -> tuple[AuditRow, bytes, bytes]:
    """Row, body without its hash, and hash of a line without newline. Raises FormatError."""
    if len(line) > limits.AUDIT_LINE_BYTES_MAX:
        raise FormatError("the line is too long for an audit row")
    if len(line) < _TAIL_BYTES or not line.endswith(b'"}') or line[-_TAIL_BYTES : -_TAIL_BYTES + len(_TAIL)] != _TAIL:
        raise FormatError("the line does not end with a hash")
    body = line[:-_TAIL_BYTES] + b"}"
    try:
        return msgspec.json.decode(body, type=AuditRow), body, bytes.fromhex(line[-66:-2].decode("ascii"))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FormatError("the line is not an audit row") from error


def follow(line: bytes, previous: Link) -> tuple[AuditRow, Link]:
    """The row of a line (without newline) and its link, if it follows `previous`. Raises FormatError saying why not."""
    row, body, claimed = decode(line)
    if row.n != previous.n + 1:
        raise FormatError(f"row {row.n} follows row {previous.n}: rows are missing or were put in")
    if blake3(previous.hash + body).digest() != claimed:
        raise FormatError(f"row {row.n} was changed, or one before it: its hash does not fit")
    return row, Link(row.n, claimed)


def bounded(value: Any) -> Any:
    """`value` if its JSON is small enough for a row, else a word that it was not."""
    if value is None:
        return None
    size = len(msgspec.json.encode(value))
    return value if size <= limits.AUDIT_VALUE_BYTES_MAX else f"not kept: {size} bytes"


def matches(row: AuditRow, wanted: Mapping[str, str]) -> bool:
    """Whether a row fits: `who`, `action`, `target` by part of their text, `outcome` whole, `since`/`until` by time."""
    since, until, outcome = wanted.get("since", ""), wanted.get("until", ""), wanted.get("outcome", "")
    if (since and row.time < since) or (until and row.time >= until) or (outcome and row.outcome != outcome):
        return False
    parts = ((wanted.get("who", ""), row.auth_id), (wanted.get("action", ""), row.action))
    return all(part in text for part, text in (*parts, (wanted.get("target", ""), row.target)))
