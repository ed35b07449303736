"""Certificates are loaded, renewed and refused in plain words; `doctor` and the commands say the same."""

import datetime
import os
import ssl
import threading
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from streamer.cli.main import main
from streamer.errors import UsageError
from streamer.ops.doctor import examine
from streamer.runtime.certificate import Certificate
from streamer.settings import Settings

PASSWORD = "between us"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class Pair:
    """Files of a certificate and of its key, from an authority."""

    def __init__(self, folder: Path, authority: trustme.CA, days: int = 90) -> None:
        folder.mkdir(exist_ok=True)
        self.certificate, self.key, self.both = (folder / f"{name}.pem" for name in ("certificate", "key", "both"))
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        start = min(until, datetime.datetime.now(datetime.UTC)) - datetime.timedelta(days=2)
        self.made = authority.issue_cert("shop.example", "127.0.0.1", not_before=start, not_after=until)
        self.write()

    def write(self) -> None:
        for blob in self.made.cert_chain_pems:
            self.certificate.write_bytes(blob.bytes())
        self.key.write_bytes(self.made.private_key_pem.bytes())
        self.both.write_bytes(self.made.private_key_and_cert_chain_pem.bytes())

    def encrypt(self) -> None:
        key = load_pem_private_key(self.made.private_key_pem.bytes(), None)
        sealed = BestAvailableEncryption(PASSWORD.encode())
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed))


@pytest.fixture
def pair(tmp_path: Path, authority: trustme.CA) -> Pair:
    return Pair(tmp_path / "tls", authority)


def test_one_file_or_two_and_a_password(pair: Pair) -> None:
    for certificate in (Certificate(pair.certificate, pair.key), Certificate(pair.both)):
        assert certificate.validity().names == ("shop.example", "127.0.0.1")
    pair.encrypt()
    assert Certificate(pair.certificate, pair.key, PASSWORD).validity().names


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("no certificate", "tls_certificate {certificate} cannot be read: no such file or directory"),
        ("no key", "tls_key {key} cannot be read: no such file or directory"),
        ("key for certificate", "tls_certificate {certificate} has no certificate: it has to be a text file in PEM"),
        ("certificate for key", "tls_key {key} has no private key: it has to be a text file in PEM"),
        ("certificate alone", "tls_certificate {certificate} has no private key; name its file by tls_key"),
        ("binary", "tls_certificate {certificate} has no certificate: it has to be a text file in PEM"),
        ("another's key", "the key in {key} is not that of the certificate in {certificate}"),
        ("encrypted", "the key in {key} is encrypted: give tls_key_password"),
        ("wrong password", "the key in {key} cannot be read: tls_key_password is wrong"),
        ("torn", "{certificate} and {key} cannot be read as certificate and key"),
        ("key without certificate", "tls_key is given and tls_certificate is not"),
    ],
)
def test_what_does_not_fit_is_said_in_plain_words(
    wrong: str, says: str, pair: Pair, authority: trustme.CA, tmp_path: Path, settings: Settings,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """By the commands that would serve, before anything starts, and by `doctor`; no terminal is asked for a password."""
    given = {"tls_certificate": str(pair.certificate), "tls_key": str(pair.key)}
    if wrong == "no certificate":
        pair.certificate.unlink()
    elif wrong == "no key":
        pair.key.unlink()
    elif wrong == "key for certificate":
        pair.certificate.write_bytes(pair.key.read_bytes())
    elif wrong == "certificate for key":
        pair.key.write_bytes(pair.certificate.read_bytes())
    elif wrong == "certificate alone":
        del given["tls_key"]
    elif wrong == "binary":
        pair.certificate.write_bytes(os.urandom(500))
    elif wrong == "another's key":
        pair.key.write_bytes(Pair(tmp_path / "other", authority).key.read_bytes())
    elif wrong in ("encrypted", "wrong password"):
        pair.encrypt()
        given |= {"tls_key_password": "hunter2"} if wrong == "wrong password" else {}
    elif wrong == "torn":
        pair.certificate.write_bytes(pair.certificate.read_bytes()[:200] + b"\n-----END CERTIFICATE-----\n")
    else:
        del given["tls_certificate"]
    expected = says.format(certificate=pair.certificate, key=pair.key)
    with pytest.raises(UsageError) as refused:
        Certificate.from_settings(Settings.load(**given))
    assert expected in str(refused.value)
    flags = [flag for name, value in given.items() for flag in ("--set", f"{name}={value}")]
    for command in ("serve", "up"):
        assert main([command, "--log", str(settings.log), "--port", "0", *flags]) == 2
        told = capfd.readouterr().err
        assert f"freshet: {expected}" in told
        assert "hunter2" not in told
    [finding] = [one for one in examine(Settings.load(**given, log=settings.log)) if one.check == "certificate"]
    assert not finding.fine
    assert finding.mend
    assert expected in finding.found


@pytest.mark.parametrize(
    ("days", "fine", "says"), [(90, True, "90 more days"), (5, False, "5 more days"), (-1, False, "expired")]
)
def test_doctor_says_for_whom_and_how_long(
    days: int, fine: bool, says: str, authority: trustme.CA, tmp_path: Path, settings: Settings
) -> None:
    pair = Pair(tmp_path / "tls", authority, days)
    with_it = settings.model_copy(update={"tls_certificate": pair.certificate, "tls_key": pair.key})
    [finding] = [one for one in examine(with_it) if one.check == "certificate"]
    assert (finding.fine, bool(finding.mend)) == (fine, not fine)
    assert says in finding.found
    assert ("shop.example, 127.0.0.1" in finding.found) == (days > 0)
    assert not [one for one in examine(settings) if one.check == "certificate"]


def test_a_renewed_certificate_is_taken_and_half_a_one_is_not(
    pair: Pair, authority: trustme.CA, tmp_path: Path
) -> None:
    certificate = Certificate(pair.certificate, pair.key)
    first, context = certificate.validity(), certificate.context
    assert not certificate.renew()
    other = Pair(tmp_path / "other", authority, days=180)
    pair.certificate.write_bytes(other.certificate.read_bytes())
    with pytest.raises(UsageError, match="is not that of the certificate"):
        certificate.renew()
    assert not certificate.renew()  # said once
    assert _served(certificate, authority) == first.until_s
    pair.key.write_bytes(other.key.read_bytes())
    assert certificate.renew()
    assert certificate.context is context
    assert _served(certificate, authority) > first.until_s
    pair.key.unlink()  # who renews may move files
    assert not certificate.renew()


def test_no_handshake_fails_while_it_is_renewed(pair: Pair, authority: trustme.CA, tmp_path: Path) -> None:
    """Between its certificate and its key, both loaded one after the other, others may ask."""
    certificate, pairs = (
        Certificate(pair.both),
        (pair.both.read_bytes(), Pair(tmp_path / "o", authority).both.read_bytes()),
    )

    def renew() -> None:
        for n in range(150):
            (tmp_path / "next.pem").write_bytes(pairs[n % 2])
            (tmp_path / "next.pem").replace(pair.both)
            certificate.renew()

    renewing = threading.Thread(target=renew)
    renewing.start()
    while renewing.is_alive():
        assert _served(certificate, authority)


def _served(certificate: Certificate, authority: trustme.CA) -> float:
    """The last second of the certificate that a client gets."""
    from streamer.runtime.certificate import _handshake

    client = ssl.create_default_context()
    authority.configure_trust(client)
    client.check_hostname = False
    return ssl.cert_time_to_seconds(_handshake(client, certificate.context)["notAfter"])
