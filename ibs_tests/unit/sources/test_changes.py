"""Maps of changes: what two tools print is understood, what could be misunderstood is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ibs.core import limits
from ibs.errors import SourceUnreadable, UsageError
from ibs.sources.changes import MapForm, parse_map, read_map, read_maps

CHUNK = 100
SIZE = 1050


def unchanged(extents: Any, form: MapForm = MapForm.EXTENTS, size: int = SIZE) -> list[int]:
    flags = parse_map(json.dumps(extents).encode(), "m", form).unchanged(size, CHUNK)
    assert len(flags) == -(-size // CHUNK)
    return [number for number, flag in enumerate(flags) if flag]


def bitmap(*pieces: tuple[int, bool]) -> list[tuple[int, int, bool]]:
    at, found = 0, []
    for length, changed in pieces:
        found.append((at, length, changed))
        at += length
    return found


PIECES = bitmap((250, False), (100, True), (700, False))


def test_a_bare_list_names_what_changed() -> None:
    assert unchanged([{"start": 250, "length": 100}]) == [0, 1, 4, 5, 6, 7, 8, 9, 10]
    assert unchanged([{"offset": 1049, "length": 1}]) == list(range(10))
    assert unchanged([]) == list(range(11))
    assert unchanged([{"start": 0, "length": 1}, {"start": 0, "length": 1050}]) == []
    assert unchanged([{"start": 300, "length": 0}]) == list(range(11))
    assert unchanged([], size=0) == []


@pytest.mark.parametrize(
    ("form", "made"),
    [
        (MapForm.EXTENTS, lambda s, n, d: {"start": s, "length": n, "dirty": d}),
        (
            MapForm.EXTENTS,
            lambda s, n, d: {"offset": s, "length": n, "type": int(d), "description": "dirty" if d else "clean"},
        ),
        (
            MapForm.QEMU_BITMAP,
            lambda s, n, d: {"start": s, "length": n, "depth": 0, "present": not d, "zero": False, "data": not d},
        ),
    ],
)
def test_the_forms_of_a_whole_bitmap(form: MapForm, made: Any) -> None:
    assert unchanged([made(*one) for one in PIECES], form) == [0, 1, 4, 5, 6, 7, 8, 9, 10]
    # Overlaps: what one extent calls changed stays so; gaps count as changed.
    assert unchanged([made(0, 1050, False), made(130, 10, True)], form) == [0, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert unchanged([made(600, 450, False), made(0, 310, False)], form) == [0, 1, 2, 6, 7, 8, 9, 10]
    with pytest.raises(UsageError, match="describes 1000 bytes"):
        unchanged([made(0, 1000, False)], form)
    with pytest.raises(UsageError, match="describes 0 bytes"):
        unchanged([], MapForm.QEMU_BITMAP)


def test_a_place_in_another_file_is_no_start() -> None:
    extents = [{"start": 0, "length": 1050, "offset": 999, "zero": False, "data": True}]
    assert unchanged(extents, MapForm.QEMU_BITMAP) == list(range(11))


def test_a_map_may_end_with_its_last_block() -> None:
    rounded = 64 * limits.KIB
    assert unchanged([{"start": 0, "length": rounded, "dirty": False}]) == list(range(11))
    with pytest.raises(UsageError, match="the image has 1050"):
        unchanged([{"start": 0, "length": rounded + SIZE + 1, "dirty": False}])
    with pytest.raises(UsageError, match="the image has 1050"):
        unchanged([{"start": 1 << 40, "length": 5}])


@pytest.mark.parametrize(
    "extents",
    [
        [{"start": 0, "length": 1050, "data": True, "zero": False}],
        [{"start": 0, "length": 1050, "zero": True}],
        [{"offset": 0, "length": 1050, "type": 0, "description": "data"}],
        [{"offset": 0, "length": 1050, "type": 3, "description": "hole,zero"}],
        [{"start": 0, "length": 50}, {"start": 50, "length": 1000, "dirty": False}],
        [{"start": 0, "length": 50, "dirty": True, "data": True}],
    ],
)
def test_a_map_of_something_else_is_refused(extents: Any) -> None:
    with pytest.raises(UsageError) as caught:
        unchanged(extents)
    assert caught.value.hint


def test_a_map_of_the_image_itself_is_no_bitmap() -> None:
    with pytest.raises(UsageError, match="no extent is zero"):
        unchanged([{"start": 0, "length": 1050, "data": False, "zero": True}], MapForm.QEMU_BITMAP)
    with pytest.raises(UsageError, match="not one of a dirty bitmap"):
        unchanged([{"start": 0, "length": 1050}], MapForm.QEMU_BITMAP)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b"[[]]",
        b"not JSON",
        b'[{"start": 0, "length": 10}',
        b'[{"start": 0, "length": 10}] []',
        b'[{"start": -1, "length": 10}]',
        b'[{"start": 0, "length": -10}]',
        b'[{"start": 0, "length": 99999999999999999999999}]',
        b'[{"start": 4611686018427387905, "length": 1}]',
        b'[{"start": 0, "length": 1.5}]',
        b'[{"start": "0", "length": 1}]',
        b'[{"start": 0}]',
        b'[{"length": 5}]',
        b'[{"start": 0, "length": 1, "dirty": 1}]',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_map_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError, match="map m"):
        parse_map(content, "m", MapForm.EXTENTS)


def test_the_greatest_numbers_do_not_wrap() -> None:
    with pytest.raises(UsageError, match="the image has"):
        unchanged([{"start": (1 << 62) - 1, "length": (1 << 62) - 1}])
    with pytest.raises(UsageError, match="not a list of extents"):
        unchanged([{"start": 1 << 62, "length": 1 << 62}])


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map"
    path.write_text('[{"start": 0, "length": 100}]')
    found = read_maps([("d.img", str(path))], MapForm.EXTENTS)["d.img"]
    assert found.unchanged(200, 100).tolist() == [False, True]
    with pytest.raises(SourceUnreadable, match="No such file"):
        read_map(os.fsencode(tmp_path / "none"))
    with pytest.raises(SourceUnreadable, match="directory"):
        read_map(os.fsencode(tmp_path))
    monkeypatch.setattr(limits, "CHANGE_MAP_BYTES_MAX", 10)
    with pytest.raises(UsageError, match="larger than"):
        read_map(os.fsencode(path))
