"""A missing library is told with the way to get it and the way around it."""

from __future__ import annotations

from ibs.client.paper.missing import missing


def test_both_ways_are_told() -> None:
    error = missing("reading a QR code", "zxing-cpp", "type its lines")
    assert error.message == "reading a QR code needs zxing-cpp, which is not installed here"
    assert error.hint == "install the extra: pip install 'ironcore-backup[paper]'; or type its lines"
