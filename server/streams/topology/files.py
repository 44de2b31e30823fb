"""Whether the files that a URL of Redis names can be used: asked once, when a process starts.

Later they may change, as a password is rotated; then each connection finds out for itself. Knows nothing of URLs but
what `address` made of them.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from server.streams.errors import InvalidInput
from server.streams.topology.address import Address
from server.streams.topology.credentials import read_password

_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def check_files(address: Address, *, what: str = "REPRISE_REDIS_URL") -> None:
    """Raises `InvalidInput` with a sentence that names the file and the option."""
    if address.password_file is not None:
        _check_password(address.password_file, what)
    for option in _FILES:
        if (path := address.tls.get(option)) is not None:
            _check_readable(option, path, what)
    folder = address.tls.get("ssl_ca_path")
    if folder is not None and not Path(folder).is_dir():
        raise InvalidInput(f"{what} names a folder of authorities (ssl_ca_path) that is not there: {folder!r}.")
    if address.has_tls:
        _check_certificates(address, what)


def _check_password(path: str, what: str) -> None:
    try:
        password = read_password(path)
    except (OSError, UnicodeDecodeError) as error:
        told = f"{what} names a password_file {path!r} that cannot be read: {_why(error)}."
        raise InvalidInput(f"{told} Put the password there, or mend the path.") from None
    if not password:
        raise InvalidInput(f"{what} names a password_file {path!r} that is empty. Put the password there.")


def _check_readable(option: str, path: str, what: str) -> None:
    try:
        Path(path).read_bytes()
    except OSError as error:
        told = f"{what} names a file ({option}) that cannot be read, {path!r}: {_why(error)}."
        raise InvalidInput(f"{told} Mend the path, or leave the option out.") from None


def _check_certificates(address: Address, what: str) -> None:
    """Whether TLS takes them."""
    tls = address.tls
    context = ssl.create_default_context()
    authorities, certificate, key = (tls.get(option) for option in _FILES)
    try:
        if authorities is not None:
            context.load_verify_locations(cafile=authorities)
    except ssl.SSLError:
        told = f"{what} names a file (ssl_ca_certs) that holds no certificate of an authority: {authorities!r}."
        raise InvalidInput(f"{told} It must be PEM: '-----BEGIN CERTIFICATE-----'.") from None
    if key is not None and certificate is None:
        raise InvalidInput(f"{what} has an option 'ssl_keyfile' without 'ssl_certfile'. Name the certificate, too.")
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key, tls.get("ssl_password", ""))
    except ssl.SSLError:
        told = f"{what} names a certificate (ssl_certfile) and a key that do not work together: {certificate!r}."
        raise InvalidInput(f"{told} Both must be PEM, and the key that of the certificate.") from None
    try:
        if (ciphers := tls.get("ssl_ciphers")) is not None:
            context.set_ciphers(ciphers)
    except ssl.SSLError:
        raise InvalidInput(f"{what} has an option 'ssl_ciphers' that names none. Leave it out.") from None


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
