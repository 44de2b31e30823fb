"""A certificate authority of the test's own, and what it signed for 127.0.0.1. Made by the openssl program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import pytest

needs_tls = pytest.mark.skipif(
    not (which("redis-server") and which("openssl")), reason="redis-server or openssl is not installed on this machine"
)

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """Files of one folder."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def lines(self) -> list[str]:
        """For a server's configuration file: TLS also between the servers, and no certificates of clients."""
        files = [f"tls-ca-cert-file {self.authority}", f"tls-cert-file {self.certificate}", f"tls-key-file {self.key}"]
        return [*files, "tls-auth-clients no", "tls-replication yes", "tls-cluster yes"]


def make_certificates(folder: Path) -> Certificates:
    found = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority_key, request, names = folder / "ca.key", folder / "server.csr", folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1\n")
    whose = ("-subj", "/CN=tests", "-keyout", authority_key)
    _openssl("req", "-x509", *_NEW_KEY, "-days", 2, *whose, "-out", found.authority)
    _openssl("req", *_NEW_KEY, "-subj", "/CN=server", "-keyout", found.key, "-out", request)
    signed = ("-CA", found.authority, "-CAkey", authority_key, "-CAcreateserial", "-days", 2, "-extfile", names)
    _openssl("x509", "-req", "-in", request, *signed, "-out", found.certificate)
    return found


def _openssl(*words: str | int | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
