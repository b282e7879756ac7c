"""What a run tells about its progress: times, rates, and a line for each epoch."""

import time

import pytest

from dmr_gluon.training.progress import Clock, duration, epoch_line, speed


def test_a_clock_gives_each_moment_to_one_activity(monkeypatch):
    moments = iter([100.0, 103.0, 105.0004, 109.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    clock = Clock()
    for what in ("train", "data", "train"):
        clock.lap(what)
    assert clock.rounded() == {"train": 7.0, "data": 2.0}
    assert sum(clock.seconds.values()) == pytest.approx(9)


@pytest.mark.parametrize(
    "rate, text", [(431.7, "432"), (10, "10"), (9.96, "10"), (9.84, "9.8"), (0.1234, "0.12")]
)
def test_a_slow_rate_is_not_rounded_to_0(rate, text):
    assert speed(rate) == text


def test_durations():
    assert [duration(seconds) for seconds in (0, 61, 3723)] == ["00:00", "01:01", "1:02:03"]


def test_the_line_of_an_epoch():
    values = {
        "epoch": 3,
        "lr": 0.01,
        "train_loss": 1.5,
        "train_error": 40,
        "test_error": 30.125,
        "test_top5_error": 4.5,
        "images_per_second_overall": 812.4,
        "skipped_steps": 2,
    }
    line = epoch_line(values, 400, 3723, top5=True)
    assert line.startswith("epoch   3/400  lr 0.01  train loss 1.5000 error 40.00%  ")
    assert "test error 30.12%  top-5 4.50%  skipped 2  812 img/s  left 1:02:03" in line
    assert "top-5" not in epoch_line(values, 400, 0) and "skipped" in epoch_line(values, 400, 0)
