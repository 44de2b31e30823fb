"""The password of Redis from a file, as secrets are mounted: read again for each connection that is made.

So a password is rotated without a restart: add the new one in Redis, replace the file, take the old one away. What is
connected stays so; what connects from then on reads the new one.
"""

from __future__ import annotations

from pathlib import Path

from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError


def read_password(path: str) -> str:
    """What the file holds, without the end of its line. Raises `OSError` or `UnicodeDecodeError`."""
    return Path(path).read_text(encoding="utf-8").rstrip("\r\n")


class PasswordFile(CredentialProvider):
    """What redis-py asks whenever it dials."""

    def __init__(self, path: str, *, username: str | None) -> None:
        self._path = path
        self._username = username

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            password = read_password(self._path)
        except (OSError, UnicodeDecodeError) as error:
            raise RedisConnectionError(f"the password file {self._path!r} cannot be read: {error}") from error
        if not password:  # Redis would call it a wrong one
            raise RedisConnectionError(f"the password file {self._path!r} is empty")
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()  # a small local file: no slower than a turn of the loop
