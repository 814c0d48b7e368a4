"""Secrets of tokens and how requests present them."""

from __future__ import annotations

import pytest

from ibs.core import limits
from ibs.errors import NotAuthenticated
from ibs.security import tokens
from ibs.security.tokens import new_secret, parse_bearer, secret_fits, token_digest

KEY = bytes(range(32))


def test_secrets_have_256_bits_of_the_given_entropy() -> None:
    asked = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return b"\xff" * count

    assert new_secret(entropy) == "_" * 42 + "8"
    assert asked == [32]
    assert len({new_secret() for _ in range(100)}) == 100


def test_a_digest_fits_its_key_identity_and_secret_only() -> None:
    digest = token_digest(KEY, "a@ibs!x", "s")
    assert secret_fits(KEY, "a@ibs!x", "s", digest)
    assert not secret_fits(bytes(32), "a@ibs!x", "s", digest)
    assert not secret_fits(KEY, "a@ibs!y", "s", digest)
    assert not secret_fits(KEY, "a@ibs!x", "t", digest)
    assert not secret_fits(KEY, "a@ibs!x", "s", None)


def test_an_unknown_identity_takes_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return True

    monkeypatch.setattr(tokens.hmac, "compare_digest", compare)
    assert not secret_fits(KEY, "a@ibs!x", "s", None)
    assert len(compared) == 1


def test_a_credential_is_taken_apart() -> None:
    who, secret = parse_bearer("bearer  anna@ibs!host:a:b ")
    assert (str(who), secret) == ("anna@ibs!host", "a:b")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer anna@ibs!host",
        "Bearer anna@ibs!host:",
        "Bearer :hush-hush",
        "Basic anna@ibs!host:hush-hush",
        "Bearer anna:hush-hush",
        "Bearer anna@ibs!:hush-hush",
        "Bearer a@ibs!x:hush-hush" + "x" * limits.AUTHORIZATION_CHARS_MAX,
    ],
)
def test_malformed_credentials_are_refused_and_not_repeated(header: str) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        parse_bearer(header)
    assert "hush" not in caught.value.message + caught.value.hint
