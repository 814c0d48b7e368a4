"""Programs on this machine find a server that listens everywhere at an address they can connect to."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ibs.services.context import Endpoint
from ibs.services.whereabouts import write_whereabouts


@pytest.mark.parametrize(
    ("host", "address"), [("0.0.0.0", "127.0.0.1:8007"), ("::", "[::1]:8007"), ("192.0.2.1", "192.0.2.1:8007")]
)
def test_written_whole_and_private(tmp_path: Path, host: str, address: str) -> None:
    certificates = SimpleNamespace(pins="aa:bb")
    context: Any = SimpleNamespace(endpoint=Endpoint(host, 8007), certificates=certificates, pid=7)
    path = tmp_path / "server.json"
    write_whereabouts(path, context)
    facts = json.loads(path.read_text())
    assert (facts["address"], facts["fingerprint"], facts["pid"]) == (address, "aa:bb", 7)
    assert path.stat().st_mode & 0o077 == 0
