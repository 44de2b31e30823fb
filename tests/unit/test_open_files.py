"""What is said of the limit on open files."""

from __future__ import annotations

import resource

import pytest

from server.open_files import RESERVE, OpenFiles


@pytest.mark.parametrize(("limit", "is_told"), [(500 + RESERVE - 1, True), (500 + RESERVE, False)])
def test_a_limit_that_the_streams_do_not_fit_is_told_with_the_way_out(
    limit: int, is_told: bool, caplog: pytest.LogCaptureFixture
):
    OpenFiles(limit).warn_if_too_few(500)
    assert (f"may open {limit} files, too few for 500 streams" in caplog.text) is is_told
    assert ("LimitNOFILE" in caplog.text) is is_told


def test_the_end_of_the_descriptors_is_told_once(caplog: pytest.LogCaptureFixture):
    files = OpenFiles(64)
    files.opened(40)
    assert caplog.messages == []
    for descriptor in (62, 63, 20, 63):
        files.opened(descriptor)
    (said,) = caplog.messages
    assert said.startswith("All 64 files that this process may open are used up")
    assert "ulimit -n" in said


def test_without_a_limit_nothing_is_said(caplog: pytest.LogCaptureFixture):
    files = OpenFiles(resource.RLIM_INFINITY)
    files.warn_if_too_few(1_000_000)
    files.opened(1_000_000)
    assert caplog.messages == []
