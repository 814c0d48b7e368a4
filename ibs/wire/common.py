"""What all API bodies share. Frozen msgspec structs; snake_case; bytes as integers; times RFC 3339 UTC with Z."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ibs.errors import IbsError

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""A number of things or bytes; fits every database and language that it may pass through."""
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e15)]


class Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of every request and response body."""


class ErrorBody(Wire, frozen=True, kw_only=True):
    """Body of every answer with a 4xx or 5xx status."""

    code: str
    message: str
    hint: str = ""
    retry: str = "never"
    details: dict[str, Any] = {}


def body_of(error: IbsError) -> ErrorBody:
    """The body that tells `error`; `client.failures` makes the error of it again."""
    return ErrorBody(
        code=error.code, message=error.message, hint=error.hint, retry=str(error.retry), details=error.details
    )


class TaskStarted(Wire, frozen=True, kw_only=True):
    """Answer of every call that starts a task."""

    upid: str


class Ping(Wire, frozen=True, kw_only=True):
    product: str
    version: str
    api: str
