"""Damaged and half-written logs: what can be read is used, what cannot be is named.

The logs are damaged at random, with fixed seeds. What is right is decided line by line by readers
that are simpler than those under test.
"""

import contextlib
import json
import os
import random
import re
import threading

import pytest
from run_folders import (
    ARGUMENTS,
    authors_lines,
    configuration,
    epoch_values,
    epochs_of,
    log_of,
    write_run,
)

from dmr_gluon.compare.comparison import compare
from dmr_gluon.compare.groups import departures_of
from dmr_gluon.compare.statistics import NO_VERDICT
from dmr_gluon.compare.tables import as_json, as_text
from dmr_gluon.errors import DMRError
from dmr_gluon.runs import training_run as results_run
from dmr_gluon.runs.log import EVENTS
from dmr_gluon.runs.reader import read_runs
from dmr_gluon.runs.training_run import MEASURES

EPOCHS = 12
#: What may stand where something else is to be; as JSON.
WRONG = (
    *("null", "true", "-1", "0", "0.5", "1e400", "-1e400", "NaN", "Infinity", "1" + "0" * 400),
    *('""', '"x"', '"\\ud800"', '"a\\nb"', '"\\u0000"', "[]", "{}", "[[[]]]", '[{"a": []}]'),
    *("[" * 200 + "]" * 200, "[" * 975 + "]" * 975, '"' + "9" * 5000 + '"', "1e-320", "1e308"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing is wrong with, and its like with another seed."""
    folder = tmp_path_factory.mktemp("whole")
    for seed in (1, 2):
        path = write_run(folder / str(seed), 6.5 + seed / 100, seed=seed, epochs=EPOCHS)
    return path, read_runs([folder])


def contents(path, name="log.jsonl"):
    with open(os.path.join(path, name), "rb") as file:
        return file.read()


def damage(content, rng):
    """A file's bytes after something has happened to them, once to three times."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        lines = content.split(b"\n")
        place, line = rng.randrange(len(content) + 1), rng.randrange(len(lines))
        other = rng.randrange(len(lines))
        kind = rng.randrange(14)
        if kind == 0:
            content = content[:place]  # the disk was full
        elif kind == 1:
            content = content[place:]
        elif kind == 2:
            flipped = bytearray(content or b"x")
            for _ in range(rng.choice((1, 1, 5, 50))):
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            content = bytes(flipped)
        elif kind == 3:
            content = b"\n".join(lines[:line] + lines[line + 1 :])
        elif kind == 4:
            content = b"\n".join(lines[:line] + [lines[line]] + lines[line:])
        elif kind == 5:
            lines[line], lines[other] = lines[other], lines[line]
            content = b"\n".join(lines)
        elif kind == 6:
            content = b"\n".join(
                [*lines[:line], b"".join(lines[line : line + 2]), *lines[line + 2 :]]
            )
        elif kind == 7:
            content = content[:place] + b"\0" * rng.choice((1, 40, 4096)) + content[place:]
        elif kind == 8:
            content = (
                content[:place] + bytes(rng.choices(range(128, 256), k=5)) + content[place + 5 :]
            )
        elif kind == 9:
            content = b"\xef\xbb\xbf" + content
        elif kind == 10:
            content = content.replace(b"\n", b"\r\n")
        elif kind == 11:
            content = content[:place] + rng.choice(WRONG).encode() + content[place:]
        elif kind == 12:  # a number
            found = list(re.finditer(rb"\d+(\.\d+)?", content))
            if found:
                number = rng.choice(found)
                value = rng.choice(WRONG).encode()
                content = content[: number.start()] + value + content[number.end() :]
        elif kind == 13:
            content = content[:place] + b"[" * 100_000 + content[place:]
    return content


def told(problems, what, number):
    """Whether a line or an epoch is named, alone or in a range, or is among a counted rest."""
    for problem in problems:
        if re.search(rf"\b{what} {number}\b", problem):
            return True
        if re.match(r"[\d,]+ more (lines|epochs) ", problem):
            ranges = problem.rpartition(": ")[2]
            for begin, end in re.findall(r"(\d+)(?:-(\d+))?", ranges.split("...")[0]):
                if int(begin) <= number <= int(end or begin):
                    return True
            if "..." in ranges:
                return True
    return False


def check(runs, others):
    """What holds for every run, whatever it was read from."""
    for run in runs:
        for problem in (*run.problems, *run.changes, *run.remarks):
            assert problem.isprintable() and len(problem) < 600, problem
        assert len(run.problems) < 60
        for row in run.epochs.values():
            for name, value in row.items():
                assert type(value) is float and 0 <= value <= MEASURES[name] and value < 1e300
    comparison = compare([*runs, *others], others)
    assert {run.path for run in comparison.runs} == {run.path for run in (*runs, *others)}
    for row in comparison.rows:
        if row.group.departures:
            assert row.verdict.kind == NO_VERDICT
    as_text(comparison).encode()
    json.dumps(as_json(comparison), allow_nan=False)


# Logs of this package


def number_in(value, most):
    return type(value) in (int, float) and 0 <= value <= min(most, 1e299)


def read_simply(content):
    """Whole epochs and broken lines of a log.jsonl.

    Returns
    -------
    dict of int to list of dict
        By epoch what its lines say, those before a second start left out.
    set of int
        Lines of which something cannot be used.
    set of int
        Epochs of which something cannot be used.
    """
    found, lines, epochs, started = {}, set(), set(), False
    if content.startswith(b"\xef\xbb\xbf"):
        content = content[3:]
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line.decode())
            kind = event["event"]
            assert kind in EVENTS
        except Exception:
            lines.add(number)
            continue
        if kind == "start":
            if started:
                found = {}
            started = True
        if kind != "epoch":
            continue
        epoch = event.get("epoch")
        if type(epoch) is not int or not 1 <= epoch <= 1_000_000:
            lines.add(number)
            continue
        row = {
            name: event[name] for name, most in MEASURES.items() if number_in(event.get(name), most)
        }
        if len(row) < len(MEASURES):
            epochs.add(epoch)
        if row and epoch <= EPOCHS:
            found.setdefault(epoch, []).append(row)
    return found, lines, epochs


def check_epochs(run, found):
    assert sorted(run.epochs) == sorted(found)
    for epoch, rows in found.items():
        if all(
            all(row.get(name, v) == v for name, v in other.items())
            for row in rows
            for other in rows
        ):
            assert run.epochs[epoch] == {name: v for row in rows for name, v in row.items()}
        else:
            assert run.epochs[epoch] in [*rows, {**rows[0], **rows[-1]}] or len(rows) > 2
            assert told(run.problems, "epoch", epoch)


@pytest.mark.parametrize("part", range(4))
def test_logs_of_ours(tmp_path, whole, part):
    path, others = whole
    content, config = contents(path), contents(path, "config.json")
    good = others[1]
    for seed in range(100 * part, 100 * part + 100):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        damaged = damage(content, rng)
        (folder / "log.jsonl").write_bytes(damaged)
        (folder / "config.json").write_bytes(config)
        (run,) = read_runs([folder])
        found, lines, epochs = read_simply(damaged)
        check_epochs(run, found)
        for number in lines:
            assert told(run.problems, "line", number), (seed, number, run.problems)
        for epoch in epochs:
            assert told(run.problems, "epoch", epoch), (seed, epoch, run.problems)
        assert run.setup == good.setup  # config.json is whole
        assert (run.state == "finished") == ("test_error" in run.epochs.get(EPOCHS, {}))
        if not run.problems:  # nothing is lost silently, but for whole lines at the end
            assert sorted(run.epochs) == list(range(1, run.last + 1)), seed
        check([run], others)


def meaning(setup):
    """What of a setup decides with what it is compared."""
    return (
        setup.dataset, setup.spec, setup.recipe, setup.epochs, setup.images, setup.seed,
    )  # fmt: skip


@pytest.mark.parametrize("part", range(3))
def test_config_json(tmp_path, whole, part):
    path, others = whole
    content, config = contents(path), contents(path, "config.json")
    good = others[1]
    for seed in range(1000 + 100 * part, 1100 + 100 * part):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "log.jsonl").write_bytes(content)
        (folder / "config.json").write_bytes(damage(config, random.Random(seed)))
        (run,) = read_runs([folder])
        # The log says all of it too: what differs is found out, and then not comparable.
        assert run.setup is not None
        if meaning(run.setup) != meaning(good.setup):
            assert run.changes and departures_of(run), seed
        else:
            assert run.epochs == good.epochs and run.state == "finished"
        check([run], others)


def fields_of(value, path=()):
    """Paths to every value in JSON."""
    yield path
    if isinstance(value, (dict, list)) and path[-1:] not in [("classes",), ("versions",)]:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from fields_of(part, (*path, key))


def put(value, path, new):
    """A copy with another value at a path; as JSON text."""
    value = json.loads(json.dumps(value))
    mark = "what is to be put here"
    if not path:
        return new
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = mark
    return json.dumps(value).replace(json.dumps(mark), new)


def test_wrong_types_in_every_field_of_config_json(tmp_path, whole):
    path, others = whole
    config = json.loads(contents(path, "config.json"))
    folder = tmp_path / "run"
    folder.mkdir()
    seen = 0
    # Once with a log that says it right, once with one that says nothing.
    for log in (contents(path), contents(path).split(b"\n", 1)[1]):
        (folder / "log.jsonl").write_bytes(log)
        for place in fields_of(config):
            for new in random.Random(str(place)).sample(WRONG, 3):
                (folder / "config.json").write_text(put(config, place, new), encoding="utf-8")
                check(read_runs([folder]), others)
                seen += 1
    assert seen > 400


def test_wrong_types_in_every_field_of_events(tmp_path, whole):
    path, others = whole
    start, *epochs = contents(path).decode().splitlines()
    resume = json.dumps(
        {
            "event": "resume",
            "epoch": 2,
            "step": 9,
            "changes": {"lr": [0.1, 0.2]},
            "moved": {"devices": ["2 cpu", "1 cpu"]},
        }
    )
    back = '{"event": "rollback", "reason": "loss nan", "at": 7, "step": 6}'
    failed = '{"event": "failed", "reason": "killed"}'
    lines = [start, epochs[0], resume, back, *epochs[1:-1], failed, epochs[-1]]
    folder = tmp_path / "run"
    folder.mkdir()
    for number in (0, 1, 2, 3, len(lines) - 2, len(lines) - 1):
        event = json.loads(lines[number])
        for place in fields_of(event):
            if number == 0 and len(place) > 2:
                continue
            for new in random.Random(str(place)).sample(WRONG, 3):
                changed = [*lines[:number], put(event, place, new), *lines[number + 1 :]]
                content = "\n".join([*changed, ""]).encode()
                (folder / "log.jsonl").write_bytes(content)
                (run,) = read_runs([folder])
                found, broken, _ = read_simply(content)
                if run.setup is None or run.setup.epochs == EPOCHS:
                    check_epochs(run, found)
                for line in broken:
                    assert told(run.problems, "line", line)
                check([run], others)


# Logs of the authors' code

_LINE = re.compile(r"Epoch\[(\d+)\] (\S+?)=(\S+)$")
_BATCH = re.compile(
    r"Epoch\[(\d+)\] Batch \[\d+\]\tSpeed: \d+\tloss: [\d.]+\(([^()]+)\)\ttop1: [\d.]+\(([^()]+)\)$"
)
_THEIRS = {
    "Validation-accuracy": ("test_error", lambda value: 100 * (1 - value)),
    "Validation-cross-entropy": ("test_loss", lambda value: value),
}


def read_theirs_simply(content):
    """Values of whole lines of the authors' code, by (epoch, measure), each with its line."""
    found = {}
    lines = content.decode("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        line = line.rstrip()
        if number == len(lines) or line.count("Epoch[") != 1:
            continue  # cut off, or of several
        batch, value = _BATCH.search(line), _LINE.search(line)
        try:
            if batch:
                values = {"train_loss": float(batch[2]), "train_error": 100 - float(batch[3])}
                epoch = int(batch[1]) + 1
            elif value and value[2] in _THEIRS:
                name, error = _THEIRS[value[2]]
                epoch, values = int(value[1]) + 1, {name: error(float(value[3]))}
            else:
                continue
        except ValueError:
            continue
        for name, value in values.items():
            if 1 <= epoch <= EPOCHS and (batch or number_in(value, MEASURES[name])):
                found.setdefault((epoch, name), []).append(value)
    # Of a mean only the last of an epoch counts.
    return {key: all_ for key, all_ in found.items() if number_in(all_[-1], MEASURES[key[1]])}


@pytest.mark.parametrize("part", range(3))
def test_logs_of_the_authors_code(tmp_path, whole, part):
    path, others = whole
    arguments = ARGUMENTS.replace("num_epochs=400", f"num_epochs={EPOCHS}")
    content = "\n".join([*authors_lines(epochs_of(path), arguments=arguments), ""]).encode()
    start = b"start with arguments"
    good = read_theirs_simply(content)
    assert len(good) == 4 * EPOCHS
    log = tmp_path / "cifar10-cifar_dmrnet14.log"
    for seed in range(2000 + 100 * part, 2100 + 100 * part):
        damaged = damage(content, random.Random(seed))
        log.write_bytes(damaged)
        (run,) = read_runs([log], epochs=EPOCHS)
        check([run], others)
        if damaged.count(start) > 1 or start in damaged[damaged.find(b"Epoch[") :]:
            continue  # a training that was begun again, which has a test of its own
        simple = read_theirs_simply(damaged)
        for (epoch, name), values in simple.items():
            value = run.epochs.get(epoch, {}).get(name)
            if name.startswith("test") and len({round(v, 9) for v in values}) > 1:
                assert told(run.problems, "epoch", epoch), seed
            right = values[-1:]
            if name.startswith("train"):  # of a later line, where the simple reader gave that up
                right = right + good.get((epoch, name), [])[1:]
            assert any(value == pytest.approx(v, abs=1e-8) for v in right), (seed, epoch, name)
        for epoch, row in run.epochs.items():
            for name, value in row.items():
                if (epoch, name) not in simple:
                    # Read where the simple reader gave up: it is the right one all the same.
                    right = good.get((epoch, name), [None])
                    assert any(value == pytest.approx(v, abs=1e-8) for v in right), (seed, epoch)
        for key in good:
            if key not in simple and key[1] not in run.epochs.get(key[0], {}):
                lost = len(damaged.splitlines()) < len(content.splitlines())
                assert run.problems or lost, (seed, key)


# Particular cases


@contextlib.contextmanager
def pipe(path):
    """A pipe that ends as soon as somebody reads it: who reads it does not wait for ever."""
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: open(path, "wb").close())
    writer.start()
    try:
        yield
    finally:
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writer.join()
        os.close(reader)


def put_log(tmp_path, content, name="log.jsonl"):
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


class TestParticularDamage:
    @pytest.mark.parametrize(
        "content",
        [
            *(b"", b"\n", b"\0" * 5000, b"\xff" * 99, b"[" * 100_000, b'{"a":' * 100_000),
            *(b"null", b"3", b'"start"', b"[]", b"{}", b'{"event": []}', b'{"event": "begin"}'),
            b'{"event": "start"}\n{"event": "epoch"}\n',
        ],
    )
    def test_nothing_that_could_be_read(self, tmp_path, whole, content):
        for name in ("run.jsonl", "cifar10-cifar_dmrnet14.log"):
            (tmp_path / name).write_bytes(content)
            (run,) = read_runs([tmp_path / name])
            assert run.epochs == {} and run.state == "stopped"
            assert run.problems or run.format == "authors" and not content.strip()
            check([run], whole[1])
        (run,) = read_runs([put_log(tmp_path, content)])
        assert run.setup is None and run.problems
        check([run], whole[1])

    @pytest.mark.parametrize("name", ["log.jsonl", "config.json", "lock"])
    def test_a_folder_in_the_place_of_a_file(self, tmp_path, whole, name):
        path, others = whole
        for other in {"log.jsonl", "config.json"} - {name}:
            put_log(tmp_path, contents(path, other), other)
        (tmp_path / "run" / name).mkdir()
        (run,) = read_runs([tmp_path / "run"])
        assert run.setup == others[1].setup
        # Where the lock cannot be asked, the log says how the run stands.
        assert sum(name in problem for problem in run.problems) == (name != "lock")
        assert (run.state == "finished") == (name != "log.jsonl")
        check([run], others)

    def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(self, tmp_path, whole):
        put_log(tmp_path, contents(whole[0], "config.json"), "config.json")
        with pipe(tmp_path / "run" / "log.jsonl"):
            (run,) = read_runs([tmp_path / "run"])
        assert run.problems == ("log.jsonl cannot be read (it is no file)",)
        with pipe(tmp_path / "pipe.log"), pytest.raises(DMRError, match="it is no file"):
            read_runs([tmp_path / "pipe.log"])

    def test_lists_in_lists_that_can_just_be_read(self, tmp_path):
        """JSON is read nearer to the limit of recursion than what is read can be shown."""
        start = json.dumps({"event": "start", **configuration(epochs=1)[0]})
        epoch = json.dumps({"event": "epoch", **epoch_values(1, 1, 6.5, 1)})
        for depth in range(800, 1000):
            deep = f": {'[' * depth}{']' * depth}"
            config = start.replace('"classes": 10', '"classes"' + deep).encode()
            put_log(tmp_path, config, "config.json")
            damaged = epoch.replace('"epoch": 1', '"epoch"' + deep)
            (run,) = read_runs([put_log(tmp_path, f"{start}\n{damaged}\n".encode())])
            assert len(run.problems) == 2 and run.setup is not None and run.state == "stopped"

    def test_line_ends_and_marks_of_other_systems_are_no_damage(self, tmp_path, whole):
        path, others = whole
        for name in ("log.jsonl", "config.json"):
            text = contents(path, name).replace(b"\n", b"\r\n")
            put_log(tmp_path, b"\xef\xbb\xbf" + text, name)
        (run,) = read_runs([tmp_path / "run"])
        assert run.problems == () and run.setup == others[1].setup
        assert run.epochs == others[1].epochs
        log = tmp_path / "cifar10-cifar_dmrnet14.log"
        lines = authors_lines(epochs_of(path))
        log.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines, ""]).encode())
        (run,) = read_runs([log])
        assert run.problems == () and run.last == EPOCHS

    def test_each_damaged_line_is_named(self, tmp_path, whole):
        lines = contents(whole[0]).split(b"\n")
        lines[1] = lines[1][:-9]
        lines[2] = lines[2].replace(b'"epoch": 2,', b'"epoch": "2",')
        lines[3] = lines[3].replace(b'"event": "epoch"', b'"event": "epohc"')
        lines[4] = re.sub(rb'"test_error": [\d.]+', b'"test_error": NaN', lines[4])
        lines[5] = lines[5].replace(b'"test_loss"', b'"test_lozs"')
        content = b"\n".join(lines)[:-200]
        (run,) = read_runs([put_log(tmp_path, content)])
        assert run.problems == (
            "line 2 is not JSON; it was passed over",
            "line 14 is cut off; it was passed over",
            "line 3 is of an epoch with the number '2'; it was passed over",
            "line 4 is no event that a log has; it was passed over",
            "epoch 4 has test_error nan; passed over",
            "epoch 5 has no test_loss; passed over",
            "epochs are missing: 1-3",
        )
        assert "test_error" not in run.epochs[4] and "test_error" in run.epochs[5]

    def test_of_many_problems_the_first_and_their_number(self, tmp_path, whole):
        path, others = whole
        lines = contents(path).split(b"\n")
        noise = [b"noise %d" % i for i in range(20_000)]
        content = b"\n".join([lines[0], *noise, *lines[1:]])
        (run,) = read_runs([put_log(tmp_path, content)])
        assert run.epochs == others[1].epochs
        assert run.problems == (
            *(f"line {number} is not JSON; it was passed over" for number in range(2, 7)),
            "19,995 more lines that are not JSON: 7-20001",
        )
        every_second = [
            line for pair in zip(noise, [b'{"event": "stop"}'] * 9_999) for line in pair
        ]
        (run,) = read_runs([put_log(tmp_path, b"\n".join([lines[0], *every_second]))])
        assert run.problems[5].startswith("9,994 more lines that are not JSON: 12, 14, ")
        assert run.problems[5].endswith(", 30, ... (9,994 in all)")
        check([run], others)

    def test_a_training_without_a_finite_loss(self, tmp_path):
        """Its 400 epochs are no 400 problems."""
        path = write_run(tmp_path / "run")
        with open(log_of(path)) as file:
            text = re.sub(r'"train_loss": [\d.]+', '"train_loss": NaN', file.read())
        with open(log_of(path), "w") as file:
            file.write(text)
        (run,) = read_runs([path])
        assert run.state == "finished" and len(run.problems) == 6
        assert run.problems[0] == "epoch 1 has train_loss nan; passed over"
        assert run.problems[5] == "395 more epochs with values that were passed over: 6-400"

    def test_a_line_without_end_is_not_kept_in_memory(self, tmp_path, whole, monkeypatch):
        path, others = whole
        lines = contents(path).split(b"\n")
        monkeypatch.setattr(results_run, "LONGEST", max(map(len, lines)) + 1)
        content = b"\n".join([*lines[:3], b"x" * 100_000, *lines[3:]])
        put_log(tmp_path, contents(path, "config.json"), "config.json")
        (run,) = read_runs([put_log(tmp_path, content)])
        assert run.epochs == others[1].epochs
        assert run.problems == ("line 4 is longer than 0 MB; it was passed over",)
        (run,) = read_runs([put_log(tmp_path, content[:-1] + b"y" * 100_000)])
        assert "line 15 is longer than 0 MB; it was passed over" in run.problems

    def test_a_number_of_an_epoch_that_is_beyond_any_use(self, tmp_path, whole):
        content = contents(whole[0]).replace(b'"epoch": 12,', b'"epoch": 99999999999,')
        (run,) = read_runs([put_log(tmp_path, content)])
        assert run.last == 11
        assert (
            "line 13 is of an epoch with the number 99999999999; it was passed over" in run.problems
        )
        log = tmp_path / "cifar10-cifar_dmrnet14.log"
        log.write_text("Epoch[999999999] Validation-accuracy=0.912000\n")
        (run,) = read_runs([log])
        assert run.epochs == {} and "line 1 is of an epoch" in run.problems[0]

    @pytest.mark.parametrize(
        "line",
        [
            "Epoch[3] Validation-accuracy=0.9120002016-11-25 10:31:43,437 Epoch[4] Time cost=3.1",
            "Epoch[3] Validation-accuracy=0.912\0",
            "Epoch[3] Validation-accuracy=",
            "Epoch[3] Validation-accuracy=0,912",
            "Epoch[3] Validation-accuracy=0.91 2",
            "Epoch[3 Validation-accuracy=0.912",
            "Epoch[3] Valudation-accuracy=0.912",
            "Epoch[3] Validation-acuracy=0.912",
            "Epoch[3] Time cost=39.7762016-11-25 10:31:56,937 Epoch[3] Validation-accuracy=0.912",
            "Epoch[3] Resetting Data IteratorEpoch[3] Validation-accuracy=0.912",
            "Epoch[3] Batch [250]\tSpeed: 1237\tloss: 1.7268(1.7268)\ttop1: 35.9875(35.98",
            "Epoch[3] Batch [250]\tSpeed: 1237\tloss: 1.7268(1.7x68)\ttop1: 35.9875(35.9875)",
            "Epoch[3] Batch [250]\tSpeed: 1237\tlos",
            "Epoch[3] Batch [250]\tSpee",
            "Epoch[3] Batch [2",
        ],
    )
    def test_results_of_the_authors_code_that_are_damaged(self, tmp_path, line):
        log = tmp_path / "cifar10-cifar_dmrnet14.log"
        log.write_text(f"Epoch[0] Validation-accuracy=0.9\n2016-11-25 10:31:57,392 {line}\n")
        (run,) = read_runs([log])
        assert run.epochs == {1: {"test_error": 10.0}}
        (problem,) = run.problems
        assert problem.startswith("line 2 ") and problem.endswith("; it was passed over")

    @pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1.5", "-0.5", "1e400"])
    def test_results_that_cannot_be_true(self, tmp_path, value):
        log = tmp_path / "cifar10-cifar_dmrnet14.log"
        log.write_text(f"Epoch[399] Validation-accuracy={value}\n")
        (run,) = read_runs([log])
        assert run.epochs == {} and run.state == "stopped"
        assert run.problems[0].startswith("epoch 400 has test_error ")

    @pytest.mark.parametrize("begin", ["loss: ", "loss: 1(", "Epoch[", "Validation-", " ", "x=("])
    def test_no_line_takes_long(self, tmp_path, begin):
        """No pattern is tried again from every place of a long line."""
        log = tmp_path / "cifar10-cifar_dmrnet14.log"
        head = "Epoch[3] Batch [250]\tSpeed: 1237\t"
        long = begin * (300_000 // len(begin))
        log.write_text(f"{head}{long}\n{long}\nEpoch[3] Validation-accuracy=0{long}x\n")
        (run,) = read_runs([log])
        assert run.epochs == {} and len(run.problems) >= 2

    def test_only_damage_is_forgiven(self, tmp_path, whole):
        """A path that is wrong is an error, in one line."""
        for path in (tmp_path / "none", tmp_path):
            with pytest.raises(DMRError) as refusal:
                read_runs([whole[0], path])
            assert "\n" not in str(refusal.value)
