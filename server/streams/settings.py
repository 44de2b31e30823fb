"""Settings that servers and workers share, and how any settings are read.

Environment variables with the prefix REPRISE_, then `.env`. Read once, at the entry points; below them values
are passed. Invariant: a variable with the prefix is a setting of Reprise, or it stops the start.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
)

from server.streams.durability import Durability
from server.streams.keys import Keys
from server.streams.topology.address import parse_address
from server.streams.topology.files import check_files

ENV_PREFIX: Final = "REPRISE_"
ENV_FILE: Final = ".env"

#: A reader that was away for an event or two must find them.
_EVENTS_PER_STREAM: Final = 4

S = TypeVar("S", bound="CoreSettings")


class CannotStart(Exception):
    """What a person must change before this process can start. Shown without a traceback."""

    exit_code: ClassVar[int] = 1


class InvalidSettings(CannotStart):
    """The person's: settings that are misspelt, out of bounds or contradictory; one sentence a line."""

    exit_code: ClassVar[int] = 2


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part for item in value.split(",") if (part := item.strip()))


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


#: Several words in one variable, with commas between them.
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class CoreSettings(BaseSettings):
    """What every process of one installation must agree on."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        # Names that are no fields are judged by `load_settings`, which knows the other process's names too.
        dotenv_filtering="only_existing",
        extra="forbid",
        allow_inf_nan=False,
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    #: Names that are settings of the other kind of process: one `.env` serves both. A test keeps this true.
    sibling_names: ClassVar[frozenset[str]] = frozenset()

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Where Redis is: `redis://host:port/0`, `unix:///path`, or a form for TLS, Sentinel or Cluster.",
    )
    prefix: str = Field(
        "reprise:", max_length=64, description="What every key and every pub/sub name in Redis begins with."
    )
    lease_seconds: float = Field(
        15,
        ge=1,
        le=3600,
        description="How long a worker may be silent before its task is given to another.",
    )
    retention_seconds: float = Field(
        86_400,
        ge=1,
        le=366 * 86_400,
        description="How long the events of a stream are kept after its end.",
    )
    result_seconds: float = Field(
        172_800,
        ge=1,
        le=3660 * 86_400,
        description="How long an ended task and its result are kept; at least twice the retention.",
    )
    max_stream_events: int = Field(
        10_000,
        ge=100,
        le=10_000_000,
        description="How many events a stream keeps; older ones are trimmed.",
    )
    max_stream_bytes: ByteSize = Field(
        ByteSize(64 * 2**20),
        ge=2**20,
        le=2**40,
        description="How much of Redis' memory one stream may take, about; older events are trimmed. Also as `64MiB`.",
    )
    max_event_bytes: ByteSize = Field(
        ByteSize(262_144),
        ge=1024,
        le=16 * 2**20,
        description="The largest data of one event; also as `256KiB`.",
    )
    durability: Annotated[Durability, BeforeValidator(_lower)] = Field(
        Durability.FAST,
        description="What must have an event before it counts as stored: `fast`: Redis; `replicated`: a replica, too; "
        "`fsync`: its disk.",
    )
    max_attempts: int = Field(
        3, ge=1, le=1000, description="How often a task is tried, unless the task says otherwise."
    )
    dead_letter_seconds: float = Field(
        2_592_000,
        ge=1,
        le=3660 * 86_400,
        description="How long a task that was given up is kept as a dead letter; at least as long as its result.",
    )
    drain_seconds: float = Field(
        10,
        ge=0.1,
        le=3600,
        description="How long a process that is told to stop may take to finish what it holds.",
    )
    log_format: Annotated[Literal["auto", "console", "json"], BeforeValidator(_lower)] = Field(
        "auto",
        description="`console` for people, `json` for machines; `auto`: `console` on a terminal.",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="The least important log lines to show: `debug`, `info`, `warning` or `error`."
    )

    @field_validator("redis_url")
    @classmethod
    def _known_form(cls, value: SecretStr) -> SecretStr:
        check_files(parse_address(value.get_secret_value()))
        return value

    @field_validator("prefix")
    @classmethod
    def _usable_in_keys(cls, value: str) -> str:
        if not value.isprintable() or " " in value:
            raise ValueError("it must not hold spaces or control characters")
        return Keys(value).prefix

    @model_validator(mode="after")
    def _log_outlives_lease(self) -> Self:
        if self.retention_seconds < self.lease_seconds:
            raise ValueError(
                f"REPRISE_RETENTION_SECONDS ({self.retention_seconds:g}) is below REPRISE_LEASE_SECONDS "
                f"({self.lease_seconds:g}): events would be gone before their worker is known to be dead. "
                "Raise the first or lower the second."
            )
        return self

    @model_validator(mode="after")
    def _stream_holds_events(self) -> Self:
        if self.max_stream_bytes < _EVENTS_PER_STREAM * self.max_event_bytes:
            raise ValueError(
                f"REPRISE_MAX_STREAM_BYTES ({int(self.max_stream_bytes)}) is below {_EVENTS_PER_STREAM} times "
                f"REPRISE_MAX_EVENT_BYTES ({int(self.max_event_bytes)}): a stream could not keep its last few events. "
                "Raise the first or lower the second."
            )
        return self


def load_settings(kind: type[S], **given: Any) -> S:
    """Read the settings; `given` values (from the command line, None = not given) beat the environment.

    Raises `InvalidSettings` with one sentence for each variable at fault.
    """
    own = {name: value for name, value in given.items() if value is not None}
    values = _prefixed_variables(kind)
    if unknown := list(_misspelt(kind, values)):
        raise InvalidSettings("\n".join(unknown))
    try:
        return kind(**own)
    except ValidationError as error:
        sentences = [_sentence(kind, each, own, values) for each in error.errors()]
        raise InvalidSettings("\n".join(sentences)) from None


def variable(name: str) -> str:
    """The environment variable of a field."""
    return ENV_PREFIX + name.upper()


def _prefixed_variables(kind: type[CoreSettings]) -> dict[str, str]:
    """Field names and values of every variable with our prefix; the environment beats `.env`."""
    try:
        from_file = DotEnvSettingsSource(kind).env_vars
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"The file {ENV_FILE!r} cannot be read: {error}. Mend or remove it.") from None
    prefix = ENV_PREFIX.lower()
    both = {**from_file, **EnvSettingsSource(kind).env_vars}
    return {name[len(prefix) :]: value or "" for name, value in both.items() if name.startswith(prefix)}


def _misspelt(kind: type[CoreSettings], values: Mapping[str, str]) -> Iterator[str]:
    known = sorted({*kind.model_fields, *kind.sibling_names})
    for name in sorted(values.keys() - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {variable(near[0])}?" if near else "Remove it; docs/settings.md lists what there is."
        yield f"{variable(name)} is not a setting of Reprise. {hint}"


def _sentence(
    kind: type[CoreSettings], error: ErrorDetails, given: Mapping[str, Any], values: Mapping[str, str]
) -> str:
    """One error of pydantic for the person who has to mend it."""
    cause = error.get("ctx", {}).get("error")
    if cause is not None and ENV_PREFIX in str(cause):
        return str(cause)
    name = str(error["loc"][0]) if error["loc"] else ""
    where = f"--{name.replace('_', '-')}" if name in given else variable(name)
    reason = str(cause) if cause is not None else error["msg"][:1].lower() + error["msg"][1:]
    field = kind.model_fields.get(name)
    if field is None or field.annotation is SecretStr:
        return f"{where} does not work: {reason}."
    return f"{where} is {str(given.get(name, values.get(name, '')))[:80]!r}, which does not work: {reason}."
