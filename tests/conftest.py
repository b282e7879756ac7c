"""Shared fixtures: the digits prepared once, and a short run on them."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
#: The forms in the bundle that tests share.
EXPORTED = ("plain", "folded", "int8", "onnx")

# What runs in the background of a shell, or under nohup, ignores them, and so would every program
# that a test starts and then interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A handler, which programs do not inherit, so that the tests themselves survive their terminal.
signal.signal(signal.SIGHUP, lambda *_: None)


def once(tmp_path_factory, name, make):
    """Return a folder that ``make(folder)`` fills once for all processes of a test run."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, made = root / name, root / f"{name}.made"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(str(folder))
            made.touch()
    return str(folder)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Folder of the prepared digits. Tests must not change it, nor the other shared folders."""
    from dmr_gluon.datasets.digits import prepare_digits

    return once(tmp_path_factory, "digits", prepare_digits)


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """Folder of a few of the digits: 96 training images and 36 test images."""
    import numpy as np
    from sklearn.datasets import load_digits

    from dmr_gluon.datasets.encoder import Encoding, Source
    from dmr_gluon.datasets.writer import write_set

    digits = load_digits()
    images = np.kron(digits.images * 15, np.ones((4, 4))).astype(np.uint8)
    sources = [
        Source(str(i), int(label), lambda i=i: np.repeat(images[i][:, :, None], 3, axis=2))
        for i, label in enumerate(digits.target[:132])
    ]
    splits = {"train": sources[:96], "test": sources[96:]}
    classes = [str(digit) for digit in range(10)]
    return once(
        tmp_path_factory,
        "few",
        lambda out: write_set("few", "1", lambda: (classes, splits, {}), out, Encoding(), False),
    )


@pytest.fixture(scope="session")
def short_recipe():
    """Two epochs of the smallest network."""
    from dmr_gluon.paper.recipes import DIGITS

    return replace(DIGITS, model="cifar_dmrnet8", epochs=2)


@pytest.fixture(scope="session")
def short_run(digits, short_recipe, tmp_path_factory):
    """Folder of a run with the short recipe."""
    from dmr_gluon.training.fit import fit
    from dmr_gluon.training.options import RunOptions

    def make(folder):
        fit(short_recipe, RunOptions(data_dir=digits, run_dir=folder))

    return once(tmp_path_factory, "short", make)


@pytest.fixture(scope="session")
def bundle(short_run, tmp_path_factory):
    """Folder of a bundle of that run, with a variant of every kind."""
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from dmr_gluon.deploy.bundle_writer import ExportOptions
    from dmr_gluon.deploy.export import export

    # After two epochs of training INT8 may lose any accuracy.
    options = ExportOptions(EXPORTED, check_images=100, int8_limit=100)
    return once(
        tmp_path_factory, "bundle", lambda folder: export(short_run, folder, options=options)
    )


@pytest.fixture(scope="session")
def plain_bundle(short_run, tmp_path_factory):
    """Folder of a bundle of that run, with the plain variant alone."""
    from dmr_gluon.deploy.export import export

    return once(tmp_path_factory, "plain", lambda folder: export(short_run, folder))


@pytest.fixture
def command():
    """Run a program of the repository in a process of its own."""

    def run(*arguments, cwd=None, **environment):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd or REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Folder of a wheel and an sdist, built from a clean copy of what git knows."""
    pytest.importorskip("build")
    source, out = tmp_path_factory.mktemp("source") / "copy", tmp_path_factory.mktemp("dist")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if names.returncode:
        pytest.skip("this is no clone: git does not say what belongs to it")
    for name in filter(None, names.stdout.split("\0")):
        if (REPOSITORY / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out
