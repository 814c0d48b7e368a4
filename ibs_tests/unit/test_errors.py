"""The error tree keeps its promises to scripts: stable codes, exit statuses, HTTP statuses, words."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ibs import errors
from ibs.errors import ExitStatus, IbsError, Retry

WORDED: dict[type[IbsError], tuple[object, ...]] = {
    errors.NotAuthorised: ("bob@ibs", "Datastore.Reader", "/datastore/main"),
    errors.KeyNotRegistered: ("aa:bb",),
    errors.EncryptionRequired: ("main", "web"),
    errors.FingerprintMismatch: ("aa:bb", "none"),
    errors.TlsFingerprintMismatch: ("backup2:8007", "aa:bb", "cc:dd"),
    errors.ChunkNotFound: ("00ff",),
    errors.SourceUnreachable: ("web01", "web01 0.1.0", "2026-11-23T05:00:00Z"),
    errors.DatastoreOffline: ("main", "not mounted"),
    errors.Quarantined: ("main", "a disk lies", "new backups"),
    errors.UnderMaintenance: ("main", "in maintenance since 2026-11-22T19:00:00Z by root@ibs", "new backups"),
    errors.NoSpace: ("/srv/main", "inodes"),
    errors.CorruptChunk: ("00ff", "stored bytes do not match their digest"),
    errors.DestinationNotWritable: ("/restore", "read-only file system"),
}


def tree(root: type[IbsError] = IbsError) -> Iterator[type[IbsError]]:
    """Every class of the tree that `ibs.errors` itself defines."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == "ibs.errors":
            yield from tree(child)


def make(kind: type[IbsError]) -> IbsError:
    return kind(*WORDED.get(kind, ("the disk said no",)))


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in tree()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


def test_the_drawing_on_top_names_every_class() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or "")) | {"IbsError"}
    assert drawn == {kind.__name__ for kind in tree()}


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_each_has_statuses_words_and_json_details(kind: type[IbsError]) -> None:
    error = make(kind)
    assert str(error) == error.message
    assert error.message
    assert 400 <= error.http_status < 600
    assert error.exit_status in {1, 2, 3, 5, 6, 130}
    assert error.retry in Retry
    assert all(isinstance(value, str | int | float | bool | None) for value in error.details.values())


@pytest.mark.parametrize(
    ("kind", "exit_status", "http_status"),
    [
        (errors.UsageError, ExitStatus.USAGE, 400),
        (errors.FormatError, ExitStatus.FAILED, 422),
        (errors.RefusedError, ExitStatus.REFUSED, 403),
        (errors.NotAuthenticated, ExitStatus.REFUSED, 401),
        (errors.SignatureInvalid, ExitStatus.REFUSED, 403),
        (errors.ConflictError, ExitStatus.REFUSED, 409),
        (errors.NotFoundError, ExitStatus.NOT_FOUND, 404),
        (errors.ChunkNotFound, ExitStatus.FAILED, 404),
        (errors.UnavailableError, ExitStatus.UNAVAILABLE, 503),
        (errors.SessionLost, ExitStatus.UNAVAILABLE, 410),
        (errors.FailedError, ExitStatus.FAILED, 500),
        (errors.NoSpace, ExitStatus.FAILED, 507),
        (errors.CancelledError, ExitStatus.CANCELLED, 409),
    ],
)
def test_statuses_are_the_documented_ones(kind: type[IbsError], exit_status: int, http_status: int) -> None:
    assert (kind.exit_status, kind.http_status) == (exit_status, http_status)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (errors.NotAuthorised, "not authorised: bob@ibs lacks role Datastore.Reader on /datastore/main"),
        (errors.KeyNotRegistered, "encryption key not registered: aa:bb"),
        (errors.FingerprintMismatch, "fingerprint mismatch: the data wants key aa:bb, offered was none"),
        (errors.TlsFingerprintMismatch, "TLS fingerprint mismatch: backup2:8007 offers cc:dd, pinned is aa:bb"),
        (errors.ChunkNotFound, "chunk not found: 00ff"),
        (errors.DatastoreOffline, "datastore main is offline: not mounted"),
        (errors.NoSpace, "no space: /srv/main has no free inodes"),
        (errors.CorruptChunk, "CORRUPT chunk 00ff: stored bytes do not match their digest"),
        (errors.DestinationNotWritable, "destination not writable: /restore: read-only file system"),
    ],
)
def test_operators_read_the_words_of_the_manual(kind: type[IbsError], words: str) -> None:
    error = make(kind)
    assert error.message == words
    assert error.hint


def test_a_given_hint_wins_over_the_default() -> None:
    assert errors.NotAuthenticated("no token").hint == errors.NotAuthenticated.default_hint
    assert errors.NotAuthenticated("no token", hint="set IBS_TOKEN").hint == "set IBS_TOKEN"
    assert IbsError("x", rows=3).details == {"rows": 3}


def test_no_space_says_what_to_do_where() -> None:
    assert errors.NoSpace("datastore main", "inodes").hint == (
        "see ironcore-backup datastore stats main; free some, or run ironcore-backup gc start main"
    )
    assert "raise it, or free some" in errors.NoSpace("datastore main", "quota").hint
    assert errors.NoSpace("/var/lib/ironcore-backup", "bytes").hint == "free some"
