"""The certificate by which a server answers HTTPS: loaded, refused in plain words, and loaded again once renewed."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from streamer.errors import UsageError
from streamer.settings import Settings

_CERTIFICATE, _KEY, _ENCRYPTED = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----", b"ENCRYPTED"
_PEM = "it has to be a text file in PEM format"


class Validity(NamedTuple):
    """What a certificate says of itself: the names and addresses that it is for, and its last second, s since 1970."""

    names: tuple[str, ...]
    until_s: float


class Certificate:
    """A certificate with its private key, as the side of a server.

    Args:
        certificate: PEM file of the certificate, with those that lead to its root behind it.
        key: PEM file of the private key; None: it is in the same file.
        password: of the key, where that is encrypted.

    Raises UsageError where they cannot be read or do not fit, naming the setting.
    """

    def __init__(self, certificate: Path, key: Path | None = None, password: str | None = None) -> None:
        self._certificate, self._key, self._password = certificate, key or certificate, password
        self._key_setting = "tls_certificate" if key is None else "tls_key"
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._seen = self._stamps()
        self._load(self.context)
        self._newest = self.context
        self.context.sni_callback = self._choose

    @classmethod
    def from_settings(cls, settings: Settings) -> "Certificate | None":
        """That of the settings; None where they have none. Raises UsageError."""
        if settings.tls_certificate is None:
            if settings.tls_key is not None:
                raise UsageError("tls_key is given and tls_certificate is not: HTTPS needs both")
            return None
        return cls(settings.tls_certificate, settings.tls_key, settings.tls_key_password)

    def renew(self) -> bool:
        """Loads files that have changed, for connections from now on; says whether they had.

        Raises UsageError where they are not fit, once a change: the certificate of before goes on.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        self._seen = stamps
        renewed = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._load(renewed)
        self._newest = renewed
        return True

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Lets a handshake go on with the newest: one that was loaded into meanwhile has another's key for a moment."""
        connection.context = self._newest

    def validity(self) -> Validity:
        """By what a client sees in a handshake that stays in memory. Raises UsageError where it refuses."""
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        trusting.load_verify_locations(self._certificate)
        try:
            shown = _handshake(trusting, self.context)
        except ssl.SSLCertVerificationError as error:
            raise UsageError(f"tls_certificate {self._certificate}: {error.verify_message}") from None
        names = tuple(str(name) for _, name in shown.get("subjectAltName", ()))
        return Validity(names, ssl.cert_time_to_seconds(shown["notAfter"]))

    def _load(self, context: ssl.SSLContext) -> None:
        is_encrypted = self._check_texts()
        password: str | Callable[[], str] = self._password or (lambda: "")  # without one OpenSSL asks the terminal
        try:
            context.load_cert_chain(self._certificate, self._key, password if is_encrypted else None)
        except ssl.SSLError as error:
            raise UsageError(self._described(error, is_encrypted)) from None

    def _check_texts(self) -> bool:
        """Whether the key is encrypted. Raises UsageError where a file is not what it is to be."""
        certificate = _read("tls_certificate", self._certificate)
        key = _read(self._key_setting, self._key)
        if _CERTIFICATE not in certificate:
            raise UsageError(f"tls_certificate {self._certificate} has no certificate: {_PEM}")
        if _KEY not in key:
            hint = "; name its file by tls_key" if self._key_setting == "tls_certificate" else f": {_PEM}"
            raise UsageError(f"{self._key_setting} {self._key} has no private key{hint}")
        if _ENCRYPTED in key and not self._password:
            raise UsageError(f"the key in {self._key} is encrypted: give tls_key_password")
        return _ENCRYPTED in key

    def _described(self, error: ssl.SSLError, is_encrypted: bool) -> str:
        if error.reason == "KEY_VALUES_MISMATCH":
            return (
                f"the key in {self._key} is not that of the certificate in {self._certificate}: give those of one pair"
            )
        if is_encrypted:
            return f"the key in {self._key} cannot be read: tls_key_password is wrong, or the file is damaged"
        what = error.reason or str(error)
        return f"{self._certificate} and {self._key} cannot be read as certificate and key ({what}): one is damaged"

    def _stamps(self) -> list[tuple[int, int]]:
        """What a change of the files changes; a file that is away is one that was not changed yet."""
        found = []
        for file in (self._certificate, self._key):
            try:
                status = file.stat()
            except OSError:
                return getattr(self, "_seen", [])
            found.append((status.st_mtime_ns, status.st_ino))
        return found


def _read(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{setting} {file} cannot be read: {(error.strerror or '').lower()}") from None


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, Any]:
    """What the client gets to know of the server. Raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering, asking):  # hello, certificate, finished
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return asking.getpeercert() or {}
