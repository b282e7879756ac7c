"""A damaged log is refused in one line that names the file and the line; a cut last line is not."""

import json
import os

import pytest
from run_folders import log_of, write_run

from dmr_gluon.errors import DMRError
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import RunDirectory
from dmr_gluon.runs.reader import read_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", epochs=3)


def lines_of(run):
    with open(log_of(run), "rb") as file:
        return file.read().splitlines()


def write(run, lines):
    with open(log_of(run), "wb") as file:
        file.write(b"\n".join(lines))


def refusal(run):
    with pytest.raises(DMRError) as error:
        read_run(run)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_last_line_may_be_cut_anywhere(run):
    whole = lines_of(run)
    end = whole.pop()
    for length in range(len(end)):
        write(run, [*whole, end[:length]])
        assert read_run(run).state == "finished"
    last = whole.pop()
    write(run, [*whole, last[: len(last) // 2]])
    found = read_run(run)
    assert (found.state, found.last) == ("stopped", 2)


@pytest.mark.parametrize(
    "line", [b"{", b"\xff\xfe", b"3", b"[]", b"{}", b'{"event": 3}', b"[" * 100_000, b"\0"]
)
def test_any_other_line_is_named(run, line):
    lines = lines_of(run)
    write(run, [*lines[:2], line, *lines[2:], b""])
    assert refusal(run) == f"line 3 of {log_of(run)} is damaged: take that line out"
    write(run, [*lines, b""])  # as it says
    assert read_run(run).state == "finished"


@pytest.mark.parametrize(
    "name", ["epoch", "images", "train_loss", "train_error", "test_loss", "test_error", "seconds"]
)
@pytest.mark.parametrize("value", [None, "1", float("nan"), -1, True, {"train": "x"}])
def test_a_line_without_its_numbers_is_damaged(run, name, value):
    lines = lines_of(run)
    event = json.loads(lines[2])
    event[name] = value
    write(run, [*lines[:2], json.dumps(event).encode(), *lines[3:], b""])
    assert refusal(run) == f"line 3 of {log_of(run)} is damaged: take that line out"


def test_a_field_that_was_added_later_may_be_missing(run):
    lines = lines_of(run)
    for number in (1, 2, 3):
        event = json.loads(lines[number])
        for name in ("parameters_sha256", "lr", "test_top5_error", "images_per_second"):
            del event[name]
        event["new"] = 1
        lines[number] = json.dumps(event).encode()
    write(run, [*lines, b""])
    assert read_run(run).state == "finished"


@pytest.mark.parametrize("part", ["recipe", "network", "dataset"])
@pytest.mark.parametrize("value", [None, 5, "x", [], {}, {"name": "x"}])
def test_a_start_that_does_not_say_what_was_trained(run, part, value):
    lines = lines_of(run)
    start = json.loads(lines[0])
    start[part] = value
    write(run, [json.dumps(start).encode(), *lines[1:], b""])
    assert f"{run} does not say what was trained (" in refusal(run)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1}', "\0", "[" * 100_000])
def test_a_configuration_that_is_damaged(run, content):
    with open(os.path.join(run, "config.json"), "w") as file:
        file.write(content)
    with pytest.raises(DMRError, match="config.json"):
        RunDirectory(run).config()
    assert read_run(run).state == "finished"  # the log says what was trained


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(DMRError, match="cannot be read .*; name a run's folder or log"):
        runlog.read(str(tmp_path / "log.jsonl"))


def test_forgetting_what_comes_after_an_epoch(run):
    assert not runlog.forget_after(log_of(run), 2)
    assert [record.epoch for record in runlog.epochs(log_of(run))] == [1, 2]
    lines = lines_of(run)
    write(run, [lines[0], b"nonsense", *lines[1:], b""])
    with pytest.raises(DMRError, match="line 2 of .* is damaged"):
        runlog.forget_after(log_of(run), 1)
