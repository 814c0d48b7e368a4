"""Version 1 of the audit log, for ever: read by our code and by a second reader made from formats.md section 7."""

from __future__ import annotations

import json
from pathlib import Path

from blake3 import blake3

from ibs.core import audit

LINES = (Path(__file__).parent / "golden" / "audit.jsonl").read_bytes().splitlines()
LAST = "c02cb88959651af7c909e33a07429245270c109a02374d88f186b3cf741ceb5f"


def test_ours_reads_it() -> None:
    link = audit.BEGIN
    rows = []
    for line in LINES:
        row, link = audit.follow(line, link)
        rows.append(row)
    assert (link.n, link.hash.hex()) == (3, LAST)
    assert [(row.action, row.outcome, row.count) for row in rows] == [
        ("datastore_create", "ok", 1),
        ("task_list", "refused", 50),
        ("acl_grant", "failed", 1),
    ]
    assert rows[0].after == {"name": "ibs-primary", "path": "/srv/ibs"}


def test_the_document_alone_reads_it() -> None:
    previous = bytes(32)
    for line in LINES:
        claimed = json.loads(line)["hash"]
        end = f',"hash":"{claimed}"}}'.encode()
        assert line.endswith(end)
        previous = blake3(previous + line.removesuffix(end) + b"}").digest()
        assert previous.hex() == claimed
