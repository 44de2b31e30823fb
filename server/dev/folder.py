"""`.reprise/`: what a run keeps, where its socket is, and that one run at a time uses it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from server.streams.settings import CannotStart

FOLDER: Final = ".reprise"
_SOCKET_NAME: Final = "valkey.sock"
#: The kernel takes 107 bytes on Linux and 103 on macOS.
_LONGEST_SOCKET_PATH: Final = 100


@dataclass(frozen=True, slots=True)
class Place:
    """Where the embedded server keeps its data and listens."""

    data: Path
    socket: Path
    is_kept: bool

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}"


@contextlib.contextmanager
def kept_place(where: Path) -> Generator[Place]:
    """The place in `where`, for this process alone. Raises `CannotStart` if another run has it."""
    folder = where.resolve() / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "data").mkdir(exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(
            f"Cannot keep data in {str(folder)!r}: {error.strerror}. Start in another folder, or with --ephemeral."
        ) from None
    try:
        _take(lock, folder)
        place = Place(folder / "data", _socket_path(folder), is_kept=True)
        yield place
        if place.socket.parent != folder:
            with contextlib.suppress(OSError):  # not empty: a server outlived us and will be found there
                place.socket.parent.rmdir()
    finally:
        os.close(lock)  # and with it the lock


@contextlib.contextmanager
def passing_place() -> Generator[Place]:
    """A place that is gone after the run."""
    folder = Path(tempfile.mkdtemp(prefix="reprise-"))
    try:
        yield Place(folder, folder / _SOCKET_NAME, is_kept=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(lock, 20, 0).decode(errors="replace").strip()
        who = f"process {owner}" if owner else "another process"
        raise CannotStart(
            f"`reprise dev` already runs in {str(folder.parent)!r} ({who}). Stop it, or start this one "
            "in another folder or with --ephemeral."
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)


def _socket_path(folder: Path) -> Path:
    path = folder / _SOCKET_NAME
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    # The same folder must lead to the same socket, or a server left behind would not be found.
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"reprise-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid() or short.is_symlink():
        raise CannotStart(f"{str(short)!r} belongs to someone else. Start in a folder with a shorter path.")
    return short / _SOCKET_NAME
