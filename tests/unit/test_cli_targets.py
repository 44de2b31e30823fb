"""What `reprise tail` is told to follow, as the address that it asks."""

import pytest

from server.cli.targets import Begin, Target, target_of

SERVER = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("names", "begin", "expected"),
    [
        (["chat.42"], Begin(), Target(SERVER, f"{SERVER}/streams/chat.42/events", ("chat.42",))),
        (["a", "a"], Begin(), Target(SERVER, f"{SERVER}/streams/a/events", ("a",))),
        (["a", "b"], Begin(last=3), Target(SERVER, f"{SERVER}/events?stream=a&stream=b&last=3", ("a", "b"))),
        (["a"], Begin(is_compact=True), Target(SERVER, f"{SERVER}/streams/a/events?compact=true", ("a",))),
        (["a"], Begin(at="1-7"), Target(SERVER, f"{SERVER}/streams/a/events", ("a",), "1-7")),
        (["a"], Begin(at="latest"), Target(SERVER, f"{SERVER}/streams/a/events?from=latest", ("a",))),
        (
            ["a"],
            Begin(since="2026-11-26T18:30:00Z", types=("t", "u", "t")),
            Target(SERVER, f"{SERVER}/streams/a/events?since=1795717800000&type=t&type=u", ("a",)),
        ),
        (
            ["a"],
            Begin(since="2026-11-26t18:30:00z"),
            Target(SERVER, f"{SERVER}/streams/a/events?since=1795717800000", ("a",)),
        ),
        (["a"], Begin(at=" 1-2 "), Target(SERVER, f"{SERVER}/streams/a/events", ("a",), "1-2")),
        (["/tasks/k5/events"], Begin(), Target(SERVER, f"{SERVER}/tasks/k5/events", ("tasks.k5",))),
        (["/tasks/stream"], Begin(), Target(SERVER, f"{SERVER}/tasks/stream", ("tasks",))),
        (["/stream/system"], Begin(), Target(SERVER, f"{SERVER}/stream/system", ("system",))),
        (
            ["https://there/p/streams/a/events?attempts=all#here"],
            Begin(last=1),
            Target("https://there", "https://there/p/streams/a/events?attempts=all&last=1", ("a",)),
        ),
        (
            ["http://there/events?stream=a&stream=b"],
            Begin(),
            Target("http://there", "http://there/events?stream=a&stream=b", ("a", "b")),
        ),
        (["http://there/stream/countdown/5"], Begin(), Target("http://there", "http://there/stream/countdown/5", ())),
    ],
)
def test_names_paths_and_addresses_say_what_to_ask(names: list[str], begin: Begin, expected: Target):
    assert target_of(names, begin, server="127.0.0.1:8000") == expected


@pytest.mark.parametrize(("span", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400)])
def test_how_long_ago_is_a_time(span: str, seconds: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("server.cli.targets.time", lambda: 1_800_000_000.0)
    target = target_of(["a"], Begin(since=span), server=SERVER)
    assert target.url.endswith(f"?since={(1_800_000_000 - seconds) * 1000}")
