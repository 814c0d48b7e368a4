"""A real directory says who somebody is; what goes wrong on the way there lets nobody in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ibs.errors import UnavailableError, UsageError
from ibs.security.ldap import Conversation, Directory
from ibs_tests.support.directory import BASE, MANAGER, MANAGER_PASSWORD, Slapd, make_certificate, needs_directory, slapd

_TEMPLATE = f"uid={{user}},ou=people,{BASE}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd(tmp_path_factory.mktemp("slapd")) as found:
        yield found


def by_template(found: Slapd) -> Directory:
    return Directory(uri=found.secure, template=_TEMPLATE, ca=found.ca)


def by_search(found: Slapd) -> Directory:
    return Directory(uri=found.plain, base=BASE, bind_dn=MANAGER, bind_password=MANAGER_PASSWORD, ca=found.ca)


def takes(directory: Directory, user: str, password: str) -> bool:
    directory.check()
    return Conversation(directory).takes(user, password)


@needs_directory
@pytest.mark.parametrize("make", [by_template, by_search])
def test_only_the_right_password_is_taken(running: Slapd, make: type[Directory]) -> None:
    directory: Directory = make(running)  # type: ignore[arg-type]
    assert takes(directory, "anna", "right words")
    assert takes(directory, "b+c", "other words")  # a name that means something in a DN
    for user, password in (("anna", "wrong"), ("anna", "other words"), ("nobody", "right words")):
        assert not takes(directory, user, password)
    for password in ("", "\0", "right words\0", "\ud800"):  # an empty one is an anonymous bind, which succeeds
        assert not takes(directory, "anna", password)
    for user in ("", "*", "a*", "anna)(uid=*", "anna,ou=old", "an\\6ea"):
        assert not takes(directory, user, "right words")
    Conversation(directory).try_out()


@needs_directory
def test_a_filter_keeps_out_and_a_name_held_twice_is_nobody(running: Slapd) -> None:
    staff = replace(by_search(running), filter="(employeeType=staff)")
    assert takes(staff, "anna", "right words")
    assert not takes(staff, "b+c", "other words")
    with pytest.raises(UnavailableError, match="several entries have the uid"):
        takes(by_search(running), "twin", "twin words")


@needs_directory
@pytest.mark.parametrize("make", [by_template, by_search])
def test_nobody_gets_in_past_a_certificate_that_is_not_trusted(
    running: Slapd, make: type[Directory], tmp_path: Path
) -> None:
    for ca in (make_certificate(tmp_path), ""):
        directory: Directory = replace(make(running), ca=ca)  # type: ignore[arg-type]
        with pytest.raises(UnavailableError, match="cannot be asked"):
            takes(directory, "anna", "right words")


@needs_directory
@pytest.mark.parametrize("make", [by_template, by_search])
def test_nobody_gets_in_past_a_certificate_of_another_name(make: type[Directory], tmp_path: Path) -> None:
    with slapd(tmp_path, name="192.0.2.7") as found, pytest.raises(UnavailableError, match="cannot be asked"):
        takes(make(found), "anna", "right words")  # type: ignore[arg-type]


@needs_directory
def test_a_directory_that_cannot_answer_lets_nobody_in(running: Slapd) -> None:
    with pytest.raises(UnavailableError, match="does not take the bind DN"):
        takes(replace(by_search(running), bind_password="wrong"), "anna", "right words")
    with pytest.raises(UnavailableError, match="the search failed"):
        takes(replace(by_search(running), base="dc=elsewhere"), "anna", "right words")
    with pytest.raises(UnavailableError, match="cannot be asked"):
        takes(replace(by_template(running), uri="ldaps://127.0.0.1:1"), "anna", "right words")
    with pytest.raises(UnavailableError, match="cannot be asked"):  # TLS where StartTLS is spoken
        takes(replace(by_template(running), uri=running.plain.replace("ldap:", "ldaps:")), "anna", "right words")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"uri": "http://dc1.example"}, "address is not valid"),
        ({"uri": "ldaps://"}, "address is not valid"),
        ({"uri": "ldaps://dc1.example:99999"}, "address is not valid"),
        ({"template": ""}, "either a DN template or a base DN"),
        ({"base": BASE}, "either a DN template or a base DN"),
        ({"template": f"uid=anna,{BASE}"}, "does not hold {user} once"),
        ({"template": "{user}"}, "is not a DN"),
        ({"template": "", "base": BASE}, "needs a bind DN"),
        ({"attribute": "uid)(x"}, "attribute is not valid"),
        ({"filter": "a=b"}, "not in brackets"),
        ({"ca": "not PEM"}, "not a certificate"),
    ],
)
def test_what_could_never_work_is_refused(change: dict[str, str], why: str) -> None:
    good = Directory(uri="ldaps://dc1.example", template=_TEMPLATE)
    good.check()
    with pytest.raises(UsageError, match=why):
        replace(good, **change).check()  # type: ignore[arg-type]
