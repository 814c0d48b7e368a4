"""What a restore says of itself."""

from __future__ import annotations

import json

from ibs.errors import CorruptChunk, FormatError
from ibs.restore.tree.report import MEANINGS, Reason, RestoreReport, Severity
from ibs.restore.tree.safe_path import Folder


def test_every_reason_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Reason)


def test_counts_all_and_keeps_the_first_paths() -> None:
    report = RestoreReport(paths_max=2)
    for name in (b"a", b"b", b"c"):
        report.add(Reason.OWNER, name, "1:1: not permitted")
    (problem,) = report.problems()
    assert (problem.count, [path for path, _ in problem.paths]) == (3, ["a", "b"])
    assert report.lines() == [
        "warning: owner could not be set: 3 entries (a: 1:1: not permitted; b: 1:1: not permitted; …)"
    ]


def test_worst_first_and_counted_by_severity() -> None:
    report = RestoreReport()
    report.add(Reason.UNCHANGED, b"n")
    report.add(Reason.XATTR, b"w")
    report.add(Reason.CORRUPT, b"l")
    assert [problem.severity for problem in report.problems()] == [Severity.LOST, Severity.WARNING, Severity.NOTE]
    assert [report.count(severity) for severity in Severity] == [1, 1, 1]


def test_the_first_loss_is_kept_whole() -> None:
    report = RestoreReport()
    report.add(Reason.OWNER, b"x")
    assert report.first_loss is None
    error = CorruptChunk("00", "rot")
    report.add(Reason.CORRUPT, b"y", error.message, error=error)
    report.add(Reason.MALFORMED, b"z", "odd")
    assert report.first_loss == (error, "y")


def test_a_loss_without_an_error_gets_one() -> None:
    report = RestoreReport()
    report.add(Reason.MALFORMED, b"z", "odd")
    assert report.first_loss is not None
    assert isinstance(report.first_loss[0], FormatError)


def test_folders_spell_their_path_only_when_asked() -> None:
    report = RestoreReport()
    report.add(Reason.MODE, Folder(Folder(Folder(None, b""), b"a"), b"b"))
    report.add(Reason.MODE, Folder(None, b""))
    assert [path for path, _ in report.problems()[0].paths] == ["a/b", "."]


def test_the_view_is_json() -> None:
    report = RestoreReport()
    report.add(Reason.ACL, b"\xff", "why")
    report.made(files=2, size=10)
    report.made_folder()
    view = json.loads(json.dumps(report.view()))
    assert view["restored"]["files"] == 2
    assert view["restored"]["folders"] == 1
    assert view["problems"][0] == {
        "reason": "acl-not-set",
        "severity": "warning",
        "text": "access control list could not be set",
        "count": 1,
        "paths": [{"path": "\\xff", "detail": "why"}],
    }
