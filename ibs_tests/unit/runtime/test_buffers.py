"""Buffers for bulk data."""

from __future__ import annotations

from ibs.runtime.buffers import uninitialised


def test_a_buffer_can_be_written_and_has_its_size() -> None:
    view = uninitialised(5)
    view[:] = b"hello"
    assert bytes(view) == b"hello"
    assert not view.readonly
    assert len(uninitialised(0)) == 0
