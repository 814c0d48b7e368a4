"""A real directory server on a free port: slapd as an ordinary process, with a certificate of its own authority."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SLAPD = shutil.which("slapd") or shutil.which("slapd", path="/usr/sbin")
needs_directory = pytest.mark.skipif(
    _SLAPD is None or shutil.which("ldapadd") is None, reason="needs slapd, ldap-utils"
)
BASE, MANAGER, MANAGER_PASSWORD = "dc=corp,dc=example", "cn=reader,dc=corp,dc=example", "reads only"
_CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
allow bind_anon_dn
database mdb
maxsize 10485760
suffix "{base}"
rootdn "{manager}"
rootpw "{password}"
directory {folder}/db
"""
_ENTRIES = """\
dn: dc=corp,dc=example
objectClass: dcObject
objectClass: organization
dc: corp
o: Corp

dn: ou=people,dc=corp,dc=example
objectClass: organizationalUnit
ou: people

dn: ou=old,dc=corp,dc=example
objectClass: organizationalUnit
ou: old

dn: uid=anna,ou=people,dc=corp,dc=example
objectClass: inetOrgPerson
uid: anna
cn: Anna
sn: A
employeeType: staff
userPassword: right words

dn: uid=b\\+c,ou=people,dc=corp,dc=example
objectClass: inetOrgPerson
uid: b+c
cn: B
sn: C
userPassword: other words

dn: uid=twin,ou=people,dc=corp,dc=example
objectClass: inetOrgPerson
uid: twin
cn: T
sn: T
userPassword: twin words

dn: uid=twin,ou=old,dc=corp,dc=example
objectClass: inetOrgPerson
uid: twin
cn: T
sn: T
userPassword: twin words
"""


@dataclass(frozen=True)
class Slapd:
    """`plain` is where StartTLS is spoken, `secure` where TLS is. `ca` is PEM."""

    plain: str
    secure: str
    ca: str


def make_certificate(folder: Path, name: str = "127.0.0.1") -> str:
    """Write server.pem and server.key for the address; return the PEM, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "directory")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    (folder / "server.pem").write_bytes(pem)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "server.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return pem.decode()


@contextmanager
def slapd(folder: Path, *, name: str = "127.0.0.1") -> Iterator[Slapd]:
    """Run it for the block, with the entries above; its certificate is for `name`."""
    ca = make_certificate(folder, name)
    (folder / "db").mkdir()
    config = folder / "slapd.conf"
    config.write_text(_CONFIG.format(folder=folder, base=BASE, manager=MANAGER, password=MANAGER_PASSWORD))
    plain, secure = _free_port(), _free_port()
    urls = f"ldap://127.0.0.1:{plain}/ ldaps://127.0.0.1:{secure}/"
    with (folder / "slapd.out").open("wb") as said:
        process = subprocess.Popen([str(_SLAPD), "-d", "0", "-f", str(config), "-h", urls], stdout=said, stderr=said)
    try:
        _until_open(plain, process, folder)
        subprocess.run(
            ["ldapadd", "-x", "-H", f"ldap://127.0.0.1:{plain}", "-D", MANAGER, "-w", MANAGER_PASSWORD],
            input=_ENTRIES.encode(),
            check=True,
            capture_output=True,
        )
        yield Slapd(f"ldap://127.0.0.1:{plain}", f"ldaps://127.0.0.1:{secure}", ca)
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _until_open(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            return
        except OSError:
            assert process.poll() is None, (folder / "slapd.out").read_text()
            assert time.monotonic() < deadline, "slapd is not ready"
            time.sleep(0.05)
