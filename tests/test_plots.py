"""Pictures do not depend on the user's Matplotlib settings; learning curves show every run."""

import os
from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from run_folders import log_of, write_run

from dmr_gluon.errors import DMRError
from dmr_gluon.runs import learning_curve as plots
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.learning_curve import learning_curve, style, write_picture
from dmr_gluon.training.fit import fit
from dmr_gluon.training.options import RunOptions


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """A run with a name like a formula, and what its curve is where nothing is unusual."""
    run = tmp_path_factory.mktemp("runs") / "$x^2 at $5"
    write_run(run, network="cifar_dmrnet14", dataset="cifar10", seed=1, epochs=3)
    write_picture(lambda: learning_curve([run]), str(run / "usual.png"))
    return run


def test_a_picture_is_the_same_whatever_the_users_settings(command, pictured, tmp_path):
    rc = tmp_path / "matplotlibrc"
    rc.write_text("text.usetex: True\nfont.size: 30\nsavefig.dpi: 20\n")
    out = tmp_path / "curve.png"
    program = ("-m", "dmr_gluon.cli.main", "plot", pictured, "--out", out)
    done = command(*program, cwd=tmp_path, MATPLOTLIBRC=str(rc))
    assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    assert out.read_bytes() == (pictured / "usual.png").read_bytes()


@pytest.mark.parametrize("trouble", [RuntimeError("latex\nis not there"), MemoryError(), OSError()])
def test_what_matplotlib_cannot_draw_is_one_line(trouble, tmp_path):
    def draw():
        raise trouble

    with pytest.raises(DMRError, match=f"x.png cannot be drawn \\({type(trouble).__name__}.*\\)$"):
        write_picture(draw, str(tmp_path / "x.png"))
    with pytest.raises(DMRError, match="x.bmp cannot be drawn .*not supported"):
        write_picture(Figure, str(tmp_path / "x.bmp"))
    assert not list(tmp_path.iterdir())


def test_no_training_fails_because_of_its_picture(
    digits, short_recipe, tmp_path, capsys, monkeypatch
):
    def fails(logs):
        raise RuntimeError("latex is not there")

    monkeypatch.setattr(plots, "learning_curve", fails)
    run = str(tmp_path / "run")
    recipe = replace(short_recipe, epochs=1, steps=2)
    assert fit(recipe, RunOptions(data_dir=digits, run_dir=run)).path == run
    assert runlog.read(log_of(run))[-1]["event"] == "end"
    assert not {"curve.png", "progress.json"} & set(os.listdir(run))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("no learning curve: ") and "latex is not there" in last


# Curves of several runs.


def test_many_runs_have_names_and_looks_of_their_own(tmp_path):
    runs = [
        write_run(tmp_path / f"run{seed}", network="cifar_dmrnet14", dataset="cifar10",
                  seed=seed, epochs=2)
        for seed in range(1, 9)
    ]  # fmt: skip
    figure = learning_curve(runs)
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [
        f"run{seed}: cifar_dmrnet14, cifar10, seed {seed}, 6.50% after epoch 2"
        for seed in range(1, 9)
    ]
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
        assert [tick for tick in axes.get_xticks() if 0.5 < tick < 1.5] == [1]


def test_60_series_of_each_colour_look_different():
    looks = [style(number, turn) for number in range(6) for turn in range(60)]
    assert len(set(looks)) == len(looks)
    for number in range(6):
        assert len({style(number, turn).line for turn in range(10)}) == 10
