"""Settings: what is accepted, and the sentence for everything that is not."""

import os
import re
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from server.settings import ServerSettings
from server.streams.settings import CoreSettings, InvalidSettings, load_settings, variable
from workers.settings import WorkerSettings

DOCUMENTED = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without `.env`, and an environment without settings."""
    for name in list(os.environ):
        if name.upper().startswith("REPRISE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(kind: type[CoreSettings], **given: object) -> str:
    with pytest.raises(InvalidSettings) as refused:
        load_settings(kind, **given)
    return str(refused.value)


@pytest.mark.parametrize("kind", [ServerSettings, WorkerSettings])
def test_nothing_has_to_be_set(kind: type[CoreSettings]):
    settings = load_settings(kind)
    assert settings.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert settings.model_fields_set == set()


def test_the_environment_beats_the_file_and_the_command_line_beats_both(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / ".env").write_text("REPRISE_PORT=1\nREPRISE_HOST=::1\nREPRISE_PREFIX=file:\n")
    monkeypatch.setenv("REPRISE_PORT", "2")
    monkeypatch.setenv("REPRISE_HOST", "localhost")
    settings = load_settings(ServerSettings, port=3, host=None)
    assert (settings.port, settings.host, settings.prefix) == (3, "localhost", "file:")


def test_one_file_serves_servers_and_workers_and_other_programs(folder: Path):
    (folder / ".env").write_text("REPRISE_PORT=1\nREPRISE_CONCURRENCY=7\nDATABASE_URL=x\n")
    assert load_settings(ServerSettings).port == 1
    assert load_settings(WorkerSettings).concurrency == 7


def test_each_kind_of_process_knows_the_names_of_the_other():
    def own(kind: type[CoreSettings]) -> set[str]:
        return kind.model_fields.keys() - CoreSettings.model_fields.keys()

    assert ServerSettings.sibling_names == own(WorkerSettings)
    assert WorkerSettings.sibling_names == own(ServerSettings)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("REPRISE_REDIS_ULR", "REPRISE_REDIS_URL"),
        ("reprise_heartbeat_second", "REPRISE_HEARTBEAT_SECONDS"),
        ("REPRISE_CONCURENCY", "REPRISE_CONCURRENCY"),
    ],
)
@pytest.mark.parametrize("place", ["environment", "file"])
@pytest.mark.parametrize("kind", [ServerSettings, WorkerSettings])
def test_a_misspelt_name_is_named_with_the_nearest_known_one(
    kind: type[CoreSettings],
    place: str,
    name: str,
    nearest: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    if place == "file":
        (folder / ".env").write_text(f"{name}=5\n")
    else:
        monkeypatch.setenv(name, "5")
    expected = f"{name.upper()} is not a setting of Reprise. Did you mean {nearest}?"
    assert refusal(kind) == expected


def test_a_name_that_resembles_nothing_points_to_the_list(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPRISE_XYZZY", "1")
    expected = "REPRISE_XYZZY is not a setting of Reprise. Remove it; docs/settings.md lists what there is."
    assert refusal(ServerSettings) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "tcp://10.0.0.1:8000"),
        ("LEASE_SECONDS", "nan"),
        ("LEASE_SECONDS", "inf"),
        ("DRAIN_SECONDS", "nan"),
        ("HEARTBEAT_SECONDS", "0"),
        ("MAX_EVENT_BYTES", "3 apples"),
        ("MAX_ATTEMPTS", "0"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("PREFIX", "a{b}:"),
        ("PREFIX", "a b"),
        ("ALLOWED_ORIGINS", "example.org"),
    ],
)
def test_an_invalid_value_is_one_sentence_with_its_variable(name: str, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(f"REPRISE_{name}", value)
    sentence = refusal(ServerSettings)
    assert sentence.count("\n") == 0
    assert f"REPRISE_{name}" in sentence
    assert repr(value) in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_called_so(value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPRISE_DRAIN_SECONDS", value)
    expected = f"REPRISE_DRAIN_SECONDS is '{value}', which does not work: input should be a finite number."
    assert refusal(ServerSettings) == expected


def test_every_invalid_value_has_its_own_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPRISE_QUEUES", "a b")
    monkeypatch.setenv("REPRISE_CONCURRENCY", "many")
    lines = refusal(WorkerSettings).splitlines()
    assert [line.split()[0] for line in lines] == ["REPRISE_QUEUES", "REPRISE_CONCURRENCY"]


def test_an_invalid_option_is_named_as_it_was_typed():
    for port in (99_999, "99999", "abc", ""):
        assert refusal(ServerSettings, port=port).startswith(f"--port is '{port}', which does not work: ")


def test_the_redis_url_is_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPRISE_REDIS_URL", "redis://user:hush@redis.example:6379/0")
    assert "hush" not in repr(load_settings(ServerSettings))
    monkeypatch.setenv("REPRISE_REDIS_URL", "http://user:hush@redis.example:6379/0")
    sentence = refusal(ServerSettings)
    assert sentence.startswith("REPRISE_REDIS_URL")
    assert "hush" not in sentence


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1/zz",
        "redis://127.0.0.1:1/0/1",
        "redis://h:99999",
        "redis://h:abc",
        "redis://h:0",
        "redis://::1:6379",
        "redis://[::1",
        "redis://h/0?db=zz",
        "redis://h/0?socket_timeout=1",
        "redis://a,b",
        "unix://",
        "unix://relative/path",
    ],
)
def test_a_redis_url_that_does_not_work_is_one_sentence(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPRISE_REDIS_URL", url)
    sentence = refusal(ServerSettings)
    assert sentence.startswith("REPRISE_REDIS_URL ")
    assert "Write " in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hush@h:99999",
        "redis://:hush/x@h:6379",
        "redis://:12#hush@h:6379",
        "redis://:12?hush@h:6379",
        "redis://user:x@h:6379/hush",
        "redis://h:1/hush?password=x",
        "redis://h:1/0?password=x&hush",
        "hush@h:1",
    ],
)
def test_a_redis_url_that_may_hold_a_password_is_refused_without_being_shown(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPRISE_REDIS_URL", url)
    assert "hush" not in refusal(ServerSettings)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h/",
        "redis://[::1]:6379/3",
        "redis://user:a%2Fb@h:6379/0",
        "rediss://h:6380/2?ssl_cert_reqs=none&db=2",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_a_redis_url_of_every_known_form_is_taken(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPRISE_REDIS_URL", url)
    assert load_settings(ServerSettings).redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (
            "password_file={}/absent",
            "names a password_file '{}/absent' that cannot be read: No such file or directory.",
        ),
        ("password_file={}/empty", "names a password_file '{}/empty' that is empty."),
        ("ssl_ca_certs={}/absent", "names a file (ssl_ca_certs) that cannot be read, '{}/absent': No such file"),
        ("ssl_ca_certs={}/text", "names a file (ssl_ca_certs) that holds no certificate of an authority: '{}/text'."),
        ("ssl_ca_path={}/absent", "names a folder of authorities (ssl_ca_path) that is not there: '{}/absent'."),
        ("ssl_certfile={}/absent", "names a file (ssl_certfile) that cannot be read, '{}/absent': No such file"),
        ("ssl_certfile={}/text", "names a certificate (ssl_certfile) and a key that do not work together: '{}/text'."),
        ("ssl_keyfile={}/text", "has an option 'ssl_keyfile' without 'ssl_certfile'."),
        ("ssl_ciphers=none-such", "has an option 'ssl_ciphers' that names none."),
    ],
)
@pytest.mark.parametrize("kind", [ServerSettings, WorkerSettings])
def test_a_file_of_the_redis_url_that_cannot_be_used_stops_the_start(
    kind: type[CoreSettings], option: str, sentence: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "empty").write_text("\n")
    (folder / "text").write_text("no certificate\n")
    monkeypatch.setenv("REPRISE_REDIS_URL", f"rediss://h/0?{option.format(folder)}")
    refused = refusal(kind)
    assert refused.startswith(f"REPRISE_REDIS_URL {sentence.format(folder)}")
    assert "\n" not in refused


@pytest.mark.parametrize(
    ("first", "second", "values"),
    [
        ("REPRISE_RETENTION_SECONDS", "REPRISE_LEASE_SECONDS", ("5", "10")),
        ("REPRISE_HEARTBEAT_SECONDS", "REPRISE_MAX_STREAM_SECONDS", ("20", "10")),
        ("REPRISE_WINDOW_BYTES", "REPRISE_MAX_EVENT_BYTES", ("5KiB", "6KiB")),
    ],
)
def test_a_contradiction_names_both_variables(
    first: str, second: str, values: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(first, values[0])
    monkeypatch.setenv(second, values[1])
    sentence = refusal(ServerSettings)
    assert first in sentence
    assert second in sentence


def test_several_words_have_commas_between_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPRISE_TASKS", "one, two.three ,")
    assert load_settings(WorkerSettings, queues="high,low").queues == ("high", "low")
    assert load_settings(WorkerSettings).tasks == ("one", "two.three")


def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPRISE_PORT", "")
    assert load_settings(ServerSettings).port == 8000


def test_settings_do_not_change_after_the_start():
    settings = load_settings(ServerSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


def test_an_unreadable_file_is_a_sentence(folder: Path):
    (folder / ".env").write_bytes(b"REPRISE_PORT=\xff\xfe\n")
    assert refusal(ServerSettings).startswith("The file '.env' cannot be read")


def test_the_document_lists_every_setting_with_its_default_bounds_and_meaning():
    rows = re.findall(r"^\| `(REPRISE_\w+)` \| (.*?) \| (.*?) \| (.*) \|$", DOCUMENTED.read_text(), re.MULTILINE)
    fields = {**ServerSettings.model_fields, **WorkerSettings.model_fields}
    expected = {variable(name): (shown(field), bounds(field), field.description) for name, field in fields.items()}
    assert {name: (default, allowed, meaning) for name, default, allowed, meaning in rows} == expected
    assert len(rows) == len(expected)


def shown(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    text = ",".join(default) if isinstance(default, tuple) else str(default)  # pyright: ignore[reportUnknownArgumentType]
    return f"`{text}`" if text else ""


def bounds(field: FieldInfo) -> str:
    """From what to what a number may be."""
    found = {end: getattr(each, end) for each in field.metadata for end in ("ge", "le") if hasattr(each, end)}
    return f"{found['ge']}–{found['le']}" if found else ""


@pytest.mark.parametrize("name", ["", "a b", "-a", "q" * 65, "a/b", "ü"])
def test_what_names_no_queue_is_refused(name: str):
    assert "does not name a queue" in refusal(WorkerSettings, queues=(name,))


def test_a_queue_cannot_have_two_priorities():
    assert "stands there twice" in refusal(WorkerSettings, queues="a,b,a")
