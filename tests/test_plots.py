"""Pictures do not depend on the user's Matplotlib; learning curves tell their runs apart."""

import os
from dataclasses import replace

import pytest
from run_folders import log_of, write_run

from dmr_gluon.errors import DMRError
from dmr_gluon.runs import learning_curve as plots
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.learning_curve import learning_curve, style, told_apart, write_picture
from dmr_gluon.runs.reader import read_run
from dmr_gluon.training.fit import fit
from dmr_gluon.training.options import RunOptions

#: dmr, for a user whom the system does not know.
NOBODY = """
import os, pwd, sys
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
os.environ.pop("HOME")
from dmr_gluon.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """A run with a name like a formula, and what its curve is where nothing is unusual."""
    run = tmp_path_factory.mktemp("runs") / "$x^2 at $5"
    write_run(run, network="cifar_dmrnet14", dataset="cifar10", seed=1, epochs=3)
    write_picture(lambda: learning_curve([run]), str(run / "usual.png"))
    return run


@pytest.mark.parametrize(
    "program, environment",
    [
        (("-m", "dmr_gluon.cli.main"), {"MATPLOTLIBRC": "{rc}"}),
        (("-c", NOBODY), {}),
    ],
    ids=["settings", "nobody"],
)
def test_a_picture_is_the_same_whatever_the_users_settings(
    command, pictured, tmp_path, program, environment
):
    rc = tmp_path / "matplotlibrc"
    rc.write_text("text.usetex: True\nfont.size: 30\nsavefig.dpi: 20\n")
    environment = {name: value.format(rc=rc) for name, value in environment.items()}
    out = tmp_path / "curve.png"
    done = command(*program, "plot", pictured, "--out", out, cwd=tmp_path, **environment)
    assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    assert out.read_bytes() == (pictured / "usual.png").read_bytes()


@pytest.mark.parametrize("trouble", [RuntimeError("latex\nis not there"), MemoryError(), OSError()])
def test_what_matplotlib_cannot_draw_is_one_line(trouble, tmp_path):
    def draw():
        raise trouble

    with pytest.raises(DMRError, match=f"x.png cannot be drawn \\({type(trouble).__name__}.*\\)$"):
        write_picture(draw, str(tmp_path / "x.png"))
    assert not list(tmp_path.iterdir())


def test_no_training_fails_because_of_its_picture(
    digits, short_recipe, tmp_path, capsys, monkeypatch
):
    def fails(logs):
        raise RuntimeError("latex is not there")

    monkeypatch.setattr(plots, "learning_curve", fails)
    run = str(tmp_path / "run")
    recipe = replace(short_recipe, epochs=1, steps=2)
    assert fit(recipe, RunOptions(data_dir=digits, run_dir=run)) == run
    assert runlog.read(log_of(run))[-1]["event"] == "end"
    assert not {"curve.png", "progress.json"} & set(os.listdir(run))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("no learning curve: ") and "latex is not there" in last


# Curves of several runs.


def test_runs_are_told_apart_by_what_differs(tmp_path):
    def run(path, network="cifar_dmrnet14", seed=1, **choices):
        choices = {"dataset": "cifar10", "epochs": 1, **choices}
        return read_run(write_run(tmp_path / path, network=network, seed=seed, **choices))

    one, two = run("a"), run("b", seed=2)
    assert told_apart([one, two]) == ("cifar_dmrnet14, cifar10", ["seed 1", "seed 2"])
    other = run("c", "cifar_resnet26")
    assert told_apart([one, other])[1] == ["cifar_dmrnet14", "cifar_resnet26"]
    fast = run("d", lr=0.2)  # told apart by its folder alone
    names = [f"seed 1, {tmp_path / 'a'}", "seed 2", f"seed 1, {tmp_path / 'd'}"]
    assert told_apart([one, two, fast])[1] == names
    assert told_apart([one, fast])[1] == [str(tmp_path / "a"), str(tmp_path / "d")]
    assert told_apart([one]) == ("cifar_dmrnet14, cifar10, seed 1", [""])


def test_many_runs_have_names_and_looks_of_their_own(tmp_path):
    runs = [
        write_run(tmp_path / str(seed) / "run", network="cifar_dmrnet14", dataset="cifar10",
                  seed=seed, epochs=2)
        for seed in range(1, 9)
    ]  # fmt: skip
    figure = learning_curve(runs)
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [f"seed {seed}: 6.50% after epoch 2" for seed in range(1, 9)]
    for axes in figure.axes:
        lines = axes.get_lines()
        looks = {f"{line.get_color()} {line._dash_pattern}" for line in lines}
        assert len(looks) == len(runs) == len(lines)
        assert not axes.texts  # numbers stand in the legend, where they cover nothing


def test_a_run_of_one_epoch_is_a_marker(tmp_path):
    run = write_run(
        tmp_path / "_$1", network="cifar_dmrnet14", dataset="cifar10", seed=1, epochs=400, done=1
    )
    figure = learning_curve([run])
    for axes in figure.axes:
        (line,) = axes.get_lines()
        assert line.get_marker() == "o" and line.get_markersize() > 2
        assert list(axes.get_xticks()) == [1]


def test_60_series_of_each_colour_look_different():
    looks = [style(number, turn) for number in range(6) for turn in range(60)]
    assert len(set(looks)) == len(looks)
    for number in range(6):
        assert len({style(number, turn).line for turn in range(10)}) == 10
