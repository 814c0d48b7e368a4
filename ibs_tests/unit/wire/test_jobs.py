"""Jobs on the wire: bounds are checked where they are read."""

from __future__ import annotations

import msgspec
import pytest

from ibs.wire.jobs import JobCreate, JobSpec, TaskKeeping


def test_a_job_travels_whole() -> None:
    made = JobCreate(name="nightly", spec=JobSpec(store="main", sources=["a.tree:/a"], tags=["web"], retries=2))
    assert msgspec.json.decode(msgspec.json.encode(made), type=JobCreate) == made


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (JobSpec, b'{"store":"a","sources":[],"retries":99}'),
        (JobSpec, b'{"store":"a","sources":[],"random_delay":-1}'),
        (TaskKeeping, b'{"count":0}'),
    ],
)
def test_what_is_out_of_bounds_is_refused(kind: type, text: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=kind)
