"""One-time codes: the vectors of RFC 6238 and RFC 4226, and which steps are taken."""

from __future__ import annotations

import base64

import pytest

from ibs.security.totp import code, matching_step, uri

SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_vectors_of_rfc_6238(seconds: int, wanted: str) -> None:
    assert code(SECRET, seconds // 30, 8) == wanted
    assert code(SECRET, seconds // 30) == wanted[2:]


def test_vectors_of_rfc_4226() -> None:
    wanted = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
    assert [code(SECRET, step) for step in range(10)] == wanted


def test_one_step_around_now_and_each_once() -> None:
    now = 1_000_000 * 30 + 7
    for offset, fits in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        found = matching_step(SECRET, code(SECRET, 1_000_000 + offset), now, 0)
        assert found == (1_000_000 + offset if fits else None)
    assert matching_step(SECRET, code(SECRET, 1_000_000), now, 1_000_000) is None, "used already"
    assert matching_step(SECRET, code(SECRET, 999_999), now, 1_000_000) is None, "older than one that was used"
    for text in ("", "12345", "ö23456", "\ud800"):
        assert matching_step(SECRET, text, now, 0) is None


def test_what_an_authenticator_reads() -> None:
    text = uri(SECRET, "anna@ibs", "Ironcore Backup")
    assert text.startswith("otpauth://totp/Ironcore%20Backup:anna%40ibs?secret=")
    assert base64.b32decode(text.partition("secret=")[2].partition("&")[0]) == SECRET
