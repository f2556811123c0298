"""What is said of a long preparation."""

import logging

import pytest

from fer_lightning.core import progress
from fer_lightning.core.progress import Line, track


def test_time_left_is_told_from_what_was_done_since_it_went_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO)
    line = Line("faces", every=10.0)
    for seconds, done, total in (
        (1, 1, 3),
        (2, 3, 3),
        (20, 600, 1000),
        (25, 650, 1000),
        (30, 700, 1000),
        (41, 800, 1000),
    ):
        now[0] = seconds
        line(done, total)
    assert caplog.messages == ["faces: 650 of 1000, 35 s left", "faces: 800 of 1000, 21 s left"]


def test_without_a_terminal_lines_tell_what_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO)
    for _ in track(range(4), "embedding train"):
        now[0] += 8
    assert caplog.messages == ["embedding train: 2 of 4, 16 s left", "embedding train: 4 of 4, 0 s left"]
