"""What a dry run counts, and that it opens nothing."""

from __future__ import annotations

from pathlib import Path

from ibs.client.backup.dryrun import dry_run
from ibs.runtime.pool import ThreadPool
from ibs_tests.support.backups import LaterClock, plan
from ibs_tests.support.trees import many_files


async def test_a_dry_run_counts_and_opens_no_file(tmp_path: Path) -> None:
    many_files(tmp_path / "tree", seed=10, count=30)
    (tmp_path / "disk").write_bytes(bytes(1000))
    seen = []
    sources = (("a.tree", str(tmp_path / "tree")), ("d.img", str(tmp_path / "disk")))
    outcome = await dry_run(
        plan(tmp_path, sources=sources, excludes=("none",)), pool=ThreadPool(), clock=LaterClock(), progress=seen.append
    )
    assert outcome.files == 30
    assert outcome.bytes_seen == 1000 + sum(p.stat().st_size for p in (tmp_path / "tree").rglob("f*"))
    assert (outcome.status, outcome.snapshot) == ("WARNING", "")
    assert "none" in outcome.lines[0]
