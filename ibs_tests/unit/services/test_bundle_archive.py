from __future__ import annotations

import io
import tarfile
from pathlib import Path

import zstandard

from ibs.core import limits
from ibs.services.bundle_archive import Member, stamped, write_bundle


def test_a_bundle_has_an_index_and_older_ones_go(tmp_path: Path) -> None:
    members = [Member("a/<b>.txt", "what & why", b"x\n")]
    for n in range(limits.BUNDLES_KEPT + 2):
        path = tmp_path / "support" / f"{n}.tar.zst"
        assert write_bundle(path, ["head"], members, 0) == path.stat().st_size
    assert len(list(path.parent.iterdir())) == limits.BUNDLES_KEPT
    content = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        names = tar.getnames()
        page = tar.extractfile("support-bundle/index.html")
        assert page is not None
        text = page.read().decode()
    assert names == [f"support-bundle/{name}" for name in ("index.txt", "index.html", "a/<b>.txt")]
    assert "a/&lt;b&gt;.txt" in text
    assert "what &amp; why" in text


def test_stamp() -> None:
    assert stamped("t", "s", "x") == "t s x"
