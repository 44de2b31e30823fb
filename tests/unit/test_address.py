"""URLs of Redis: what they say, and that what is wrong with one is a sentence that shows no password."""

from __future__ import annotations

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


@pytest.mark.parametrize("url", ["redis://h:1/2?ssl_x=1", "unix:///run/redis.sock?db=1", "rediss://u:p@h"])
def test_the_url_of_one_server_is_handed_on_as_it_came(url: str):
    assert parse_address(url).url == url


@pytest.mark.parametrize(
    ("url", "left", "username"),
    [
        ("redis://h:1/2?password_file=/f&db=3", "redis://h:1/2?db=3", None),
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
        ("redis+sentinel://a:1/b/c", "X does not name the master behind the hosts ('/b/c')"),
        ("redis+sentinel:///main", "X has a host and port that cannot be read ('/main')"),
        ("redis+sentinel://a:1,,b/main", "X has a host and port that cannot be read ('a:1,,b/main')"),
        ("redis+cluster://a:x", "X has a host and port that cannot be read ('a:x')"),
        ("redis+cluster://a,b:0", "X has the port 0"),
        ("redis+cluster://a/1", "X names a database, and a Cluster has only one"),
        ("redis+cluster://a?sentinel_username=x", "X has an option ('sentinel_username') that Reprise does not take"),
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
    assert form in told.removeprefix(sentence)


def test_what_may_hold_a_password_is_not_in_the_repr():
    url = "rediss+sentinel://me:hush@a/main?sentinel_password=hush&password=hush"
    assert "hush" not in repr(parse_address(url))
    assert "hush" not in repr(parse_address("redis://me:hush@a"))
