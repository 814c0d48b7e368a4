"""One schema for all, secrets gone, no line lost or torn, and never in the caller's way."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest
import trio

from ibs import log
from ibs.log import bound, configure, get_logger, redact
from ibs.runtime.pool import ThreadPool


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_role_has_its_file_and_every_line_the_schema(tmp_path: Path) -> None:
    logs = configure(tmp_path / "log")
    get_logger("gc").info("freed space", bytes=42, store="ibs-primary")
    with bound(upid="UPID:x:", auth_id="root@ibs"):
        get_logger("api").warning("a sentence with % in it", time="odd", error=ValueError("v"))
    logs.close()
    (first,) = lines(tmp_path / "log" / "gc.log")
    assert list(first) == ["time", "role", "level", "event", "upid", "auth_id", "bytes", "store"]
    assert (first["role"], first["level"], first["event"], first["bytes"]) == ("gc", "info", "freed space", 42)
    assert datetime.fromisoformat(str(first["time"])).tzinfo is not None
    assert str(first["time"]).endswith("Z")
    (second,) = lines(tmp_path / "log" / "api.log")
    assert (second["upid"], second["auth_id"]) == ("UPID:x:", "root@ibs")
    assert (second["event"], second["time_"], second["error"]) == ("a sentence with % in it", "odd", "v")
    assert (tmp_path / "log" / "gc.log").stat().st_mode & 0o777 == 0o640


def test_exceptions_are_told_with_their_trace_in_one_line(tmp_path: Path) -> None:
    logs = configure(tmp_path)
    try:
        raise KeyError("missing")
    except KeyError:
        get_logger("worker").exception("it broke")
    logs.close()
    (line,) = lines(tmp_path / "worker.log")
    assert line["level"] == "error"
    assert "KeyError: 'missing'" in str(line["exception"])


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://hooks.example/services/T0/secret", "https://hooks.example/[redacted]"),
        ("http://a.example:8086/write?db=x&p=secret", "http://a.example:8086/[redacted]"),
        ("https://a.example/", "https://a.example/"),
        ("https://a.example", "https://a.example"),
        ("", ""),
    ],
)
def test_of_an_address_only_the_place_stays(url: str, kept: str) -> None:
    assert redact({"spec": {"url": url}}) == {"spec": {"url": kept}}


def test_secrets_are_redacted_by_key_at_any_depth_and_bearers_in_texts(tmp_path: Path) -> None:
    logs = configure(tmp_path)
    get_logger("api").info(
        "refused Bearer root@ibs:s3cret-value",
        password="s3cret-value",
        headers={"Authorization": "s3cret-value", "Accept": "json"},
        items=[{"api_token": "s3cret-value"}, {"IBS_KEY_PASSPHRASE": "s3cret-value"}],
        client_secret="s3cret-value",
        tokens=3,
    )
    logs.close()
    assert "s3cret-value" not in (tmp_path / "api.log").read_text()
    (line,) = lines(tmp_path / "api.log")
    assert line["headers"] == {"Authorization": "[redacted]", "Accept": "json"}
    assert line["tokens"] == 3


def test_odd_values_become_json() -> None:
    deep: dict[str, object] = {}
    deep["deep"] = deep
    found = redact(
        {
            "b": b"\x00\xff",
            "p": Path("/x"),
            "s": {1},
            "n": 1 << 80,
            "u": "a\udcff",
            "t": datetime(2026, 1, 1),
            "d": deep,
        }
    )
    assert (found["b"], found["p"], found["s"], found["n"], found["u"]) == ("00ff", "/x", [1], str(1 << 80), "a\\udcff")
    json.dumps(found)


def test_rotation_loses_and_tears_nothing(tmp_path: Path) -> None:
    logs = configure(tmp_path, file_bytes_max=4096, files_kept=100)
    logger = get_logger("gc")
    for number in range(500):
        logger.info("line", number=number)
    logs.close()
    files = list(tmp_path.glob("gc.log*"))
    assert len(files) > 5
    assert all(file.stat().st_size <= 4096 for file in files)
    assert sorted(int(str(line["number"])) for file in files for line in lines(file)) == list(range(500))


def test_only_so_many_old_files_stay(tmp_path: Path) -> None:
    logs = configure(tmp_path, file_bytes_max=1024, files_kept=2)
    for number in range(200):
        get_logger("gc").info("line", number=number)
    logs.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["gc.log", "gc.log.1", "gc.log.2"]


def test_lines_beyond_the_queue_are_counted_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    emit = log._RoleFiles.emit

    def slow(self: log._RoleFiles, record: logging.LogRecord) -> None:
        gate.wait(10)
        emit(self, record)

    monkeypatch.setattr(log._RoleFiles, "emit", slow)
    logs = configure(tmp_path, queue_lines=5)
    for number in range(20):
        get_logger("gc").info("line", number=number)
    assert 14 <= logs.lost <= 15  # the writing thread may hold one
    lost = logs.lost
    gate.set()
    while not logs._entrance._lines.empty():
        trio.run(trio.sleep, 0)
    get_logger("gc").info("after")
    logs.close()
    found = lines(tmp_path / "gc.log")
    assert [line["event"] for line in found[-2:]] == ["after", "log lines were lost"]
    assert found[-1]["lines"] == lost
    assert len(found) == 20 - lost + 2


def test_an_over_long_line_is_cut_and_stays_json(tmp_path: Path) -> None:
    logs = configure(tmp_path)
    get_logger("gc").info("long", text=["x" * 1000] * 1000)
    logs.close()
    (line,) = lines(tmp_path / "gc.log")
    assert line["event"] == "long"
    assert int(str(line["truncated_chars"])) > 1_000_000


def test_without_a_folder_people_read_stderr() -> None:
    stream = io.StringIO()
    logs = configure(None, stderr=stream)
    get_logger("api").warning("datastore is offline", store="a", password="x")
    get_logger("api").debug("not at this level")
    logs.close()
    (line,) = stream.getvalue().splitlines()
    assert line.split(" ", 1)[1] == "warning api: datastore is offline  store=a password=[redacted]"


def test_warnings_of_libraries_come_in_the_same_schema(tmp_path: Path) -> None:
    logs = configure(tmp_path)
    logging.getLogger("some.library").warning("odd: %s", "thing")
    logging.getLogger("some.library").info("chatter")
    logs.close()
    (line,) = lines(tmp_path / "api.log")
    assert (line["event"], line["library"], line["role"]) == ("odd: thing", "some.library", "api")
    logging.getLogger("some.library").error("after the end nothing is written")
    assert len(lines(tmp_path / "api.log")) == 1


def test_a_log_that_cannot_be_written_says_so_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log, "_File", refuse)
    logs = configure(tmp_path)
    get_logger("gc").error("important")
    logs.close()
    assert "No space left on device" in (shown := capsys.readouterr().err)
    assert "error gc: important" in shown


async def test_context_reaches_tasks_and_threads(tmp_path: Path) -> None:
    logs = configure(tmp_path)
    logger = get_logger("worker")

    async def child() -> None:
        await ThreadPool().disk(lambda: logger.info("from a thread"))

    with bound(upid="UPID:1:"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
    logger.info("outside")
    logs.close()
    assert [line["upid"] for line in lines(tmp_path / "worker.log")] == ["UPID:1:", ""]


def test_several_may_be_configured_and_levels_hold(tmp_path: Path) -> None:
    one, two = configure(tmp_path / "1", level="warning"), configure(tmp_path / "2", level="info")
    get_logger("gc").info("both configured")
    two.close()
    get_logger("gc").info("below the level")
    get_logger("gc").error("only one")
    one.close()
    assert [line["event"] for line in lines(tmp_path / "2" / "gc.log")] == ["both configured"]
    assert [line["event"] for line in lines(tmp_path / "1" / "gc.log")][-1] == "only one"


@pytest.mark.parametrize("how", ["moved", "removed", "moved to a made one"])
def test_another_program_may_rotate_the_files_and_no_line_is_lost(tmp_path: Path, how: str) -> None:
    logs = configure(tmp_path)
    path, old = tmp_path / "gc.log", tmp_path / "gc.log-20261122"
    get_logger("gc").info("before")
    assert logs.drain(10)
    if how == "removed":
        path.unlink()
    else:
        path.rename(old)
    if how == "moved to a made one":
        path.touch()
    get_logger("gc").info("after")
    logs.close()
    assert [line["event"] for line in lines(path)] == ["after"]
    assert path.stat().st_mode & 0o007 == 0 or how == "moved to a made one"
    if how != "removed":
        assert [line["event"] for line in lines(old)] == ["before"]


def test_a_truncated_file_goes_on_at_its_beginning(tmp_path: Path) -> None:
    logs = configure(tmp_path)
    get_logger("gc").info("before")
    assert logs.drain(10)
    os.truncate(tmp_path / "gc.log", 0)  # as logrotate's copytruncate does
    get_logger("gc").info("after")
    logs.close()
    assert [line["event"] for line in lines(tmp_path / "gc.log")] == ["after"]


def test_what_was_logged_can_be_waited_for_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    emit = log._RoleFiles.emit

    def slow(self: log._RoleFiles, record: logging.LogRecord) -> None:
        gate.wait(10)
        emit(self, record)

    monkeypatch.setattr(log._RoleFiles, "emit", slow)
    logs = configure(tmp_path)
    for number in range(50):
        get_logger("gc").info("line", number=number)
    assert not logs.drain(0.0)
    gate.set()
    assert logs.drain(10)
    assert len(lines(tmp_path / "gc.log")) == 50
    logs.close()


def test_a_tap_sees_every_line_and_cannot_spoil_the_log(tmp_path: Path) -> None:
    seen: list[dict[str, object]] = []

    def look(line: Mapping[str, object]) -> None:
        seen.append(dict(line))
        raise ValueError("whoever looks on is ill")

    logs = configure(tmp_path)
    with log.tap(look):
        get_logger("gc").info("freed space", bytes=42)
        logging.getLogger("some.library").warning("odd")
    get_logger("gc").info("nobody looks")
    logs.close()
    assert [(line["role"], line["event"]) for line in seen] == [("gc", "freed space"), ("api", "odd")]
    assert seen[0] == lines(tmp_path / "gc.log")[0]
    assert len(lines(tmp_path / "gc.log")) == 2
