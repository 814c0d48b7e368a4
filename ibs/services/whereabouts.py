"""Where the server is, for programs on this machine: `STATE/server.json`. Written by `app`, read by the CLIs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ibs.security.private import write_private
from ibs.services.context import Endpoint
from ibs.version import VERSION

if TYPE_CHECKING:
    from ibs.services.context import ServerContext

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to


def write_whereabouts(path: Path, context: ServerContext) -> None:
    """Address, certificate and process; complete or not there. Blocks. Raises FailedError."""
    endpoint = context.endpoint
    facts = {
        "address": str(Endpoint(_WILDCARDS.get(endpoint.host, endpoint.host), endpoint.port)),
        "fingerprint": context.certificates.pins,
        "pid": context.pid,
        "version": VERSION,
    }
    write_private(path, msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
