"""The next certificate on disk: private, checked before it is kept and again when it is read."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ibs.errors import FailedError, UsageError
from ibs.security import nexttls
from ibs.security.nexttls import stage, staged, unstage
from ibs.security.tls import make

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WEEK = NOW + timedelta(days=7)


def test_it_is_kept_read_and_forgotten(tmp_path: Path) -> None:
    assert staged(tmp_path, NOW) is None
    content = make("web01", [], NOW)
    kept, certificate = stage(tmp_path, content, WEEK, NOW)
    assert (kept.content, kept.when) == (content, WEEK)
    assert staged(tmp_path, NOW) == (kept, certificate)
    assert stat.S_IMODE((tmp_path / nexttls.FILE).stat().st_mode) == 0o600
    unstage(tmp_path)
    unstage(tmp_path)
    assert staged(tmp_path, NOW) is None


def test_what_could_not_be_served_then_is_not_kept(tmp_path: Path) -> None:
    content = make("web01", [], NOW)
    with pytest.raises(UsageError, match="before it would be served"):
        stage(tmp_path, content, NOW + timedelta(days=4000), NOW)
    for wrong in (b"nonsense", content[:300], b""):
        with pytest.raises(UsageError):
            stage(tmp_path, wrong, WEEK, NOW)
    assert staged(tmp_path, NOW) is None


@pytest.mark.parametrize(
    "content", [b"{", b"{}", b'{"serve_from":"x","pem":""}', b'{"serve_from":"2026-01-01T00:00:00Z","pem":"x"}']
)
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / nexttls.FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(FailedError, match="does not hold a certificate") as caught:
        staged(tmp_path, NOW)
    assert "certificate renew --in" in caught.value.hint


def test_one_that_has_expired_meanwhile_is_told(tmp_path: Path) -> None:
    stage(tmp_path, make("web01", [], NOW), WEEK, NOW)
    with pytest.raises(FailedError, match="expired"):
        staged(tmp_path, NOW + timedelta(days=5000))
