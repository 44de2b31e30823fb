"""What refusals of Redis and its silences mean: which are waited for, and what a person is told to do."""

from __future__ import annotations

import pytest
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from server.streams.connections import unavailable
from server.streams.errors import LogRefused
from server.streams.refusing import NO_TLS, at_first, plainly, refusal, silence

#: As Redis 7.0 and Valkey 9.1 send them; the last words are from within a script.
WAITED_FOR = {
    "OOM": "OOM command not allowed when used memory > 'maxmemory'. script: f9f4, on @user_script:1.",
    "MISCONF": "MISCONF Errors writing to the AOF file: File too large",
    "READONLY": "READONLY You can't write against a read only replica. script: on @user_script:1.",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "NOPERM": "ERR ACL failure in script: User u has no permissions to run 'xadd' script: on @user_script:1.",
    "WRONGPASS": "WRONGPASS invalid username-password pair or user is disabled.",
    "MAXCLIENTS": "ERR max number of clients reached",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "BUSY": "ERR Error running script: Script killed by user with SCRIPT KILL.",
    "": "upstream failure",
    "NODB": "ERR DB index is out of range",
    "NOAOF": "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
    "NOWAITAOF": "ERR unknown command 'WAITAOF', with args beginning with: '1' '0' '2000'",
}
HOPELESS = {
    "WRONGTYPE": "WRONGTYPE Operation against a key holding the wrong kind of value script: on @user_script:1.",
    "CROSSSLOT": "CROSSSLOT Keys in request don't hash to the same slot",
    "ERR": "ERR unknown command 'EVALSHA', with args beginning with: '1' '0' '2000'",
}


@pytest.mark.parametrize(("code", "text"), WAITED_FOR.items(), ids=WAITED_FOR)
def test_what_can_heal_is_told_apart_by_its_code(code: str, text: str):
    error = refusal(text)
    assert (error.code, isinstance(error, LogRefused)) == (code, False)
    assert str(error).startswith("Redis refused: ")
    assert "script:" not in str(error)


@pytest.mark.parametrize(("code", "text"), HOPELESS.items(), ids=HOPELESS)
def test_what_cannot_heal_is_an_error_of_its_own(code: str, text: str):
    error = refusal(text)
    assert (error.code, isinstance(error, LogRefused)) == (code, True)


@pytest.mark.parametrize("text", ["the slot is moving", "12 127.0.0.1:7000"])
def test_what_a_cluster_says_on_its_way_is_waited_for(text: str):
    error = unavailable(TryAgainError(text, status_code="TRYAGAIN"))
    assert (error.code, isinstance(error, LogRefused)) == ("TRYAGAIN", False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WAITED_FOR["OOM"], "REPRISE_MAX_STREAM_BYTES"),
        (WAITED_FOR["MISCONF"], "make room"),
        (WAITED_FOR["READONLY"], "must lead to the master"),
        (WAITED_FOR["NOREPLICAS"], "min-replicas-to-write"),
        (WAITED_FOR["NOPERM"], "grant this user"),
        (WAITED_FOR["NOAOF"], "appendonly yes"),
        (WAITED_FOR["NOWAITAOF"], "REPRISE_DURABILITY=fsync needs Redis 7.2 or later, or Valkey"),
        (WAITED_FOR["NODB"], "must be below its setting 'databases'"),
        (HOPELESS["WRONGTYPE"], "remove that key"),
        (HOPELESS["ERR"], "name it as redis+sentinel://host:26379/name-of-the-master"),
    ],
)
def test_a_refusal_says_what_to_do(text: str, words: str):
    assert words in str(refusal(text))


@pytest.mark.parametrize("text", [WAITED_FOR["NODB"], HOPELESS["ERR"]])
def test_what_a_wrong_address_leads_to_is_called_no_bug(text: str):
    assert "bug" not in str(refusal(text))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'.", status_code="OOM"), "OOM"),
        (NoPermissionError("No permissions to access a key", status_code="NOPERM"), "NOPERM"),
        (AuthenticationError("invalid username-password pair", status_code="WRONGPASS"), "WRONGPASS"),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
        (ResponseError("WAITAOF is unknown here", status_code="ERR"), "ERR"),
        (
            ResponseError("Command # 1 (HGETALL reprise:{tasks.a}:task) of pipeline caused error: ('WRONGTYPE Oper',)"),
            "WRONGTYPE",
        ),
        (
            OutOfMemoryError(
                "Command # 2 (SET x (y)) of pipeline caused error: (\"command not allowed when used memory > 'm'.\",)",
                status_code="OOM",
            ),
            "OOM",
        ),
        (RedisConnectionError("DB index is out of range"), "NODB"),
        (ResponseError("DB index is out of range", status_code="ERR"), "NODB"),
        (RedisConnectionError("no node told (a:1): ERR This instance has cluster support disabled"), "NOCLUSTER"),
        (ResponseError("This instance has cluster support disabled", status_code="ERR"), "NOCLUSTER"),
        (AuthenticationError("invalid username-password pair or user is disabled."), "WRONGPASS"),
        (RedisConnectionError("HELLO must be called with the client already authenticated, otherwise"), "NOAUTH"),
        (ConnectionResetError("gone"), ""),
    ],
)
def test_redis_py_cuts_codes_off_and_they_are_known_all_the_same(error: Exception, code: str):
    found = unavailable(error)
    assert found.code == code
    assert found.code in str(found)
    assert "pipeline" not in str(found)


_BY_CERTIFICATE = "Error 1 connecting to a:1. [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed:"
_BY_SENTINEL = "no sentinel of a:26379, b:26379 named the master 'x':"


@pytest.mark.parametrize(
    ("text", "outside", "way_out"),
    [
        (f"{_BY_SENTINEL} No such master with that name", "know no master 'x'", "the name that SENTINEL MASTERS shows"),
        (f"{_BY_SENTINEL} unknown command 'SENTINEL'", "are no sentinels", "which listen at 26379 as a rule"),
        (f"{_BY_SENTINEL} Authentication required.", "refuse user or password", ""),
        (f"{_BY_SENTINEL} Connection refused", "No sentinel answers.", ""),
        (f"{_BY_SENTINEL} {_BY_CERTIFICATE} certificate has expired", "has expired.", "that is valid today"),
        (
            "the password file '/p' is empty",
            "The password_file of REPRISE_REDIS_URL is empty.",
            "Put the password there",
        ),
        (f"{_BY_CERTIFICATE} Hostname mismatch, for 'a'", "is not for the host", "as its certificate does"),
        (f"{_BY_CERTIFICATE} certificate is not yet valid (_ssl.c:1)", "is not yet valid.", "that is valid today"),
        (
            f"{_BY_CERTIFICATE} self-signed certificate",
            "is not trusted (ssl_ca_certs)",
            "name who has with ssl_ca_certs=",
        ),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "It speaks no TLS", "begin REPRISE_REDIS_URL with redis:"),
        ("[SSL: RECORD_LAYER_FAILURE] record layer failure", "It speaks no TLS", "begin REPRISE_REDIS_URL with redis:"),
        ("10.0.0.1:6379 is no master, though a sentinel says so", "name a master that is none", ""),
        ("Error -2 connecting to a:1. Name or service not known.", "is not known", ""),
    ],
)
def test_why_redis_is_silent_is_told_outside_by_its_kind_and_in_the_log_with_a_way_out(
    text: str, outside: str, way_out: str
):
    error = silence(text)
    told = plainly(error)
    assert told.startswith("Redis does not answer. ")
    assert outside in told
    assert not {"a:26379", "a:1.", "'/p'", "10.0.0.1:6379"} & set(told.replace(",", "").split())
    assert (text.rstrip(".") in str(error), way_out in str(error)) == (True, True)
    assert error.is_explained == bool(way_out)
    assert (str(error) == at_first(error, has_tls=True)) == bool(way_out)


@pytest.mark.parametrize(
    ("has_tls", "text", "reason"),
    [
        (True, "Connection reset by peer", NO_TLS),
        (True, "Timeout connecting to server", NO_TLS),
        (False, "Connection reset by peer", "If it speaks TLS, begin REPRISE_REDIS_URL with rediss://."),
        (False, "Timeout connecting to server", "Look there."),
    ],
)
def test_of_a_silence_without_a_known_reason_that_is_told_which_fits_whether_we_speak_tls(
    has_tls: bool, text: str, reason: str
):
    told = at_first(silence(text), has_tls=has_tls, hint="Look there.")
    assert told == f"Redis did not answer: {text}. {reason}"
