"""URLs of Redis: what they say, and that what is wrong with one is a sentence that shows no password."""

from __future__ import annotations

import re

import pytest

from server.streams.errors import InvalidInput
from server.streams.topology.address import Host, Kind, check_url, parse_address


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("redis+sentinel://a:1,b:2/main", (Host("a", 1), Host("b", 2))),
        ("redis+sentinel://a,[::1]:5/main/3", (Host("a", 26379), Host("::1", 5))),
        ("redis+cluster://a:7000,b", (Host("a", 7000), Host("b", 6379))),
        ("rediss+cluster://a/0", (Host("a", 6379),)),
    ],
)
def test_several_hosts_have_commas_between_them(url: str, hosts: tuple[Host, ...]):
    address = parse_address(url)
    assert address.hosts == hosts
    assert address.has_tls == url.startswith("rediss")
    assert address.kind is (Kind.SENTINEL if "sentinel" in url else Kind.CLUSTER)


def test_the_master_is_found_with_its_users_name_and_the_sentinels_with_theirs():
    address = parse_address(
        "rediss+sentinel://me:a%2Fb@s1,s2/main/3?sentinel_username=it&sentinel_password=c%2Fd&ssl_ca_certs=/ca.pem"
    )
    assert address.service == "main"
    assert address.url_of(Host("m", 7)) == "rediss://me:a%2Fb@m:7/3?ssl_ca_certs=%2Fca.pem"
    assert address.url_of_sentinel(Host("s", 8)) == "rediss://it:c%2Fd@s:8/0?ssl_ca_certs=%2Fca.pem"


def test_without_their_own_the_sentinels_are_given_no_password():
    address = parse_address("redis+sentinel://:hush@s1/main")
    assert address.url_of_sentinel(Host("s", 8)) == "redis://s:8/0"


@pytest.mark.parametrize("url", ["rediss://h:1/2?ssl_min_version=772", "unix:///run/redis.sock?db=1", "rediss://u:p@h"])
def test_the_url_of_one_server_is_handed_on_as_it_came(url: str):
    assert parse_address(url).url == url


@pytest.mark.parametrize(
    ("url", "left", "username"),
    [
        ("redis://h:1/3?password_file=/f&db=3", "redis://h:1/3?db=3", None),
        ("redis://me@h:1?password_file=/f", "redis://h:1", "me"),
        ("unix:///s?username=me&password_file=/f", "unix:///s", "me"),
    ],
)
def test_a_password_file_goes_with_a_users_name(url: str, left: str, username: str | None):
    address = parse_address(url)
    assert (address.url, address.username, address.password_file) == (left, username, "/f")


def test_a_password_file_is_for_every_node():
    address = parse_address("redis+cluster://me@a,b?password_file=/f")
    assert (address.username, address.password_file) == ("me", "/f")
    assert address.url_of(Host("c", 1)) == "redis://c:1/0"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis+sentinel://a:1", "X does not name the master behind the hosts"),
        ("redis+sentinel://a:1/b/c", "X ends with what is no number of a database ('/c')."),
        ("redis+sentinel://a:1/b c/0", "X does not name the master behind the hosts ('/b c/0')"),
        ("redis://:hush@a/x", "X ends with what is no number of a database."),
        ("redis://a/1?db=2", "X names two databases ('/1 and db=2'); leave one of them out."),
        ("redis+sentinel://:hush@a/b/1?db=0", "X names two databases; leave one of them out."),
        ("redis+sentinel:///main", "X has a host and port that cannot be read ('/main')"),
        ("redis+sentinel://a:1,,b/main", "X has a host and port that cannot be read ('a:1,,b/main')"),
        ("redis+cluster://a:x", "X has a host and port that cannot be read ('a:x')"),
        ("redis+cluster://a,b:0", "X has the port 0"),
        ("redis+cluster://a/1", "X names a database, and a Cluster has only one"),
        (
            "redis+cluster://a?sentinel_username=x",
            "X has an option 'sentinel_username', which only sentinels are given.",
        ),
        ("redis://u:hush@a?sentinel_password=hush", "X has an option 'sentinel_password', which only sentinels are"),
        ("redis://a?ssl_ca_certs=/ca.pem", "X has an option 'ssl_ca_certs', which is of TLS, and its scheme has none."),
        ("redis+sentinel://a/b?ssl_cert_reqs=none", "X has an option 'ssl_cert_reqs', which is of TLS"),
        ("redis+cluster://:hush@a?ssl_keyfile=/k", "X has an option 'ssl_keyfile', which is of TLS"),
        ("unix:///s?ssl_certfile=/c", "X has an option 'ssl_certfile', which is of TLS"),
        ("rediss://a?ssl_cert_reqs=maybe", "X has an option 'ssl_cert_reqs' that is none of required, optional, none."),
        ("rediss://a?ssl_check_hostname=maybe", "X has an option 'ssl_check_hostname' that is none of true, false"),
        (
            "rediss://a?ssl_min_version=TLSv1_3",
            "X has an option 'ssl_min_version' that is no number of a version of TLS. Write 772 for TLS 1.3, 771 for",
        ),
        ("rediss://a?ssl_min_version=13", "X has an option 'ssl_min_version' that is no number of a version of TLS."),
        ("redis://u:hush@a?passwordfile=/f", "X has an option 'passwordfile' that Reprise does not take; did you mean"),
        ("rediss://a?ssl_ca_cert=/f", "X has an option 'ssl_ca_cert' that Reprise does not take; did you mean ssl_ca_"),
        ("redis://a?timeout=1", "X has an option 'timeout' that Reprise does not take; docs/settings.md lists"),
        ("redis://u:hush@a?hush=1", "X has an option that Reprise does not take; docs/settings.md lists"),
        ("redis://a,b", "X names several hosts, and such a URL has one ('a,b'). Write sentinels as redis+sentinel://"),
        ("redis://:hush@a:1,b:2/0", "X names several hosts, and such a URL has one. Write sentinels as"),
        ("unix://relative/s", "X names a socket by a path that does not begin with '/' ('relative')."),
        ("unix://relative", "X names a socket by a path that does not begin with '/' ('relative')."),
        ("redis://a?password_file=", "X has an option 'password_file' without the path of a file"),
        ("redis://u:hush@a?password_file=/f", "X has a password and a password_file; leave one of them out"),
        ("redis://a?password=hush&password_file=/f", "X has a password and a password_file; leave one of them out"),
        ("redis+sentinel://:hush@a:1", "X does not name the master behind the hosts; a name has"),
        ("sentinel://a:1/main", "X begins with 'sentinel'."),
    ],
)
def test_a_url_that_does_not_work_is_a_sentence_with_the_way_out(url: str, sentence: str):
    with pytest.raises(InvalidInput) as refused:
        check_url(url, what="X")
    told = str(refused.value)
    assert told.startswith(sentence)
    assert "hush" not in told
    scheme = url.partition("://")[0]
    form = "redis+sentinel://" if "sentinel" in scheme else f"{scheme}://"
    way_out = r"Write |Leave it out|Begin it with rediss://|Use redis://"
    assert re.search(way_out, told)
    assert form in told.removeprefix(sentence) or "TLS" in told or "sentinels" in told


def test_a_path_that_may_be_the_end_of_a_password_is_told_how_that_is_written():
    with pytest.raises(InvalidInput, match="with %23 for # and %2F for / in a password"):
        check_url("redis://:hush@a/x")


@pytest.mark.parametrize("url", ["redis://:hush@a?foo=1", "redis://:hush@a?db=x", "redis://:hush@a/1?db=2"])
def test_how_a_password_is_written_is_not_said_where_that_is_not_the_fault(url: str):
    with pytest.raises(InvalidInput) as refused:
        check_url(url)
    assert "%2F" not in str(refused.value)


def test_the_nearest_option_is_named_for_one_that_is_unknown():
    with pytest.raises(InvalidInput, match=r"; did you mean password_file\? Write it as redis://host:6379/0"):
        check_url("redis://a?passwordfile=/f")


def test_several_hosts_are_told_the_forms_that_have_them_with_tls_where_there_was_tls():
    told = r"rediss\+sentinel://host:26379,host:26379/name-of-the-master/0, and nodes .* as rediss\+cluster://host:6379,host"
    with pytest.raises(InvalidInput, match=told):
        check_url("rediss://a,b")


def test_what_may_hold_a_password_is_not_in_the_repr():
    url = "rediss+sentinel://me:hush@a/main?sentinel_password=hush&password=hush"
    assert "hush" not in repr(parse_address(url))
    assert "hush" not in repr(parse_address("redis://me:hush@a"))
