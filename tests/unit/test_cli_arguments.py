"""What is wrong with the arguments of `reprise publish` and `reprise tail` is told before any server is asked."""

import re
from pathlib import Path

import pytest

from server.cli.application import run as reprise


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence, after which it leaves with exit code 2."""
    code = reprise(words)
    out, errors = capsys.readouterr()
    assert (code, out, errors.count("\n")) == (2, "", 1), errors
    return errors


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a/b", "x"], "'a/b' is not a stream name."),
        (["", "x"], "'' is not a stream name."),
        (["..", "x"], "'..' is not a stream name."),
        (["a", "x", "--json", "--type", "t"], "With --json the event itself says its type"),
        (["a", "x", "--append", "--key", "t"], "An event has a key, or is appended"),
        (["a", "x", "--key", "a\nb"], "--key is 'a\\nb'"),
        (["a", "x", "--idempotency-key", ""], "--idempotency-key is ''"),
        (["a", "x", "--idempotency-key", "é"], "--idempotency-key is 'é'"),
        (["a", "x", "--idempotency-key", "k "], "--idempotency-key is 'k '"),
        (["a", "x", "--patience", "-1"], "--patience is -1.0"),
        (["a", "x", "--patience", "nan"], "--patience is nan"),
        (
            ["a", "x", "--url", "ftp://127.0.0.1"],
            "'ftp://127.0.0.1' is not a URL: Request URL has an unsupported protocol 'ftp://'. Write it",
        ),
        (["a", "x", "--url", "http://[::"], "'http://[::' is not a URL"),
    ],
)
def test_what_cannot_be_published(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]):
    assert told(["publish", *words], capsys).startswith(f"reprise: {sentence}")


@pytest.mark.parametrize(
    ("data", "shown"), [("-5", "-5"), ("-5.3 °C", "'-5.3 °C'"), ("--- a", "'--- a'"), ("-\x1b", "DATA")]
)
def test_of_data_that_looks_like_an_option_it_is_told_how_it_is_given(
    data: str, shown: str, capsys: pytest.CaptureFixture[str]
):
    assert reprise(["publish", "a", data]) == 2
    errors = capsys.readouterr().err
    assert "No such option" in errors
    assert errors.endswith(f". Data that begins with a dash stands behind --: reprise publish STREAM -- {shown}\n")


def test_a_misspelt_option_is_told_what_it_may_have_been(capsys: pytest.CaptureFixture[str]):
    assert reprise(["publish", "a", "x", "--tpye", "t"]) == 2
    errors = capsys.readouterr().err
    assert "--type" in errors
    assert "behind --" not in errors


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a/b"], "'a/b' is neither a stream nor an address."),
        ([".."], "'..' is not a stream name."),
        (["a:1"], "'a:1' is not a stream name."),
        (["a", "http://127.0.0.1/streams/b/events"], "A URL or path is followed by itself."),
        (["ftp://127.0.0.1/a"], "'ftp://127.0.0.1/a' is not a URL of a server."),
        (["http:///a"], "'http:///a' is not a URL of a server."),
        (["http://[::/a"], "'http://[::/a' is not a URL"),
        (["a", "--from", "1-0", "--last", "3"], "--from and --last name several places to begin at."),
        (["a", "--from", "é"], "--from is 'é'."),
        (["a", "--from", ""], "--from is ''."),
        (["a", "--since", "yesterday"], "--since is 'yesterday'."),
        (["a", "--type", ""], "--type is ''"),
        (["a", "--json", "--raw"], "--json and --raw are two ways"),
        (["a", "--heartbeat", "0"], "--heartbeat is 0.0."),
        (["a", "--heartbeat", "nan"], "--heartbeat is nan."),
        (["a", "--url", "http://[::"], "'http://[::' is not a URL"),
    ],
)
def test_what_cannot_be_followed(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]):
    assert told(["tail", *words], capsys).startswith(f"reprise: {sentence}")


@pytest.mark.parametrize(("command", "examples"), [("publish", 6), ("tail", 5)])
def test_help_shows_examples_each_on_a_line(command: str, examples: int, capsys: pytest.CaptureFixture[str]):
    assert reprise([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines[lines.index("  Examples:") :] if f"reprise {command} " in line]) == examples


@pytest.mark.parametrize("command", ["publish", "tail"])
def test_the_document_lists_exactly_the_options_there_are(command: str, capsys: pytest.CaptureFixture[str]):
    assert reprise([command, "--help"]) == 0
    offered = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    document = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    section = document.partition(f"## `reprise {command} ")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE))
    assert listed == offered - {"--url"}  # what both have stands above them
