"""Errors cross the wire and come back as what they were."""

from __future__ import annotations

import pytest

from ibs import errors
from ibs.client.failures import error_from_body
from ibs.errors import IbsError
from ibs.wire.common import ErrorBody, body_of


@pytest.mark.parametrize(
    "error",
    [
        errors.UsageError("wrong", hint="do it right"),
        errors.NotAuthorised("a@ibs", "Datastore.Reader", "/datastore/x"),
        errors.KeyNotRegistered("aa:bb"),
        errors.NoSpace("datastore x", "inodes"),
        errors.CorruptChunk("ab" * 32, "digest"),
        errors.DatastoreOffline("x", "not mounted"),
        errors.SessionLost("gone"),
        errors.FingerprintMismatch("aa", "bb"),
    ],
)
def test_every_class_survives_with_its_words(error: IbsError) -> None:
    back = error_from_body(body_of(error), error.http_status)
    assert type(back) is type(error)
    assert (back.message, back.hint, back.details) == (error.message, error.hint, error.details)
    assert back.exit_status == error.exit_status
    assert str(back) == error.message


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, errors.NotFoundError),
        (410, errors.SessionLost),
        (418, errors.UsageError),
        (500, errors.FailedError),
        (503, errors.UnavailableError),
        (507, errors.FailedError),
    ],
)
def test_an_unknown_code_goes_by_status(status: int, kind: type[IbsError]) -> None:
    back = error_from_body(ErrorBody(code="from-the-future", message="new words"), status)
    assert type(back) is kind
    assert back.message == "new words"
