"""A wheel and a source distribution: what is in them, and that they work elsewhere."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import REPOSITORY

import dmr_gluon

SCRIPTS = ("train_cifar.py", "train_svhn.py", "train_imagenet.py")


def test_a_wheel_has_the_packages_and_the_scripts_and_nothing_else(built):
    (path,) = built.glob("*.whl")
    names = zipfile.ZipFile(path).namelist()
    version = re.escape(dmr_gluon.__version__)
    expected = rf"(dmr_gluon|dmr_gluon-{version}\.(dist-info|data/scripts))/"
    assert not [name for name in names if not re.match(expected, name)]
    assert not [name for name in names if re.search(r"(^|/)(tests|__pycache__)/|\.pyc$", name)]
    ours = {
        str(file.relative_to(REPOSITORY))
        for kind in ("*.py", "*.css", "*.js", "py.typed")
        for file in (REPOSITORY / "dmr_gluon").rglob(kind)
    }
    symbols = {f"dmr_gluon/symbols/{file.name}" for file in (REPOSITORY / "symbols").glob("*.py")}
    assert ours | symbols <= set(names)
    assert {name.rsplit("/", 1)[1] for name in names if "/scripts/" in name} == set(SCRIPTS)


def test_a_source_distribution_has_what_the_readme_needs(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (*SCRIPTS, "Makefile", "README.md", "tools/find-python", "tests/conftest.py"):
        assert name in names, name
    for name in ("docs/figures/blocks.png", "examples/plain_mxnet.py", "benchmarks/compare.py"):
        assert name in names, name
    wrong = r"\.pyc$|(^|/)(\.git|\.venv|runs|data|demo|__pycache__)(/|$)|\.(rec|idx|params|npz)$"
    # The packages dmr_gluon.data and .runs are no folders of data and runs.
    ours = ("dmr_gluon/data", "dmr_gluon/runs", "tests/golden/old_bundle")
    assert not [n for n in names if re.search(wrong, n) and not n.startswith(ours)]


def test_the_version_stands_in_one_place(built):
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    for path in (wheel, source):
        # Older setuptools keep the hyphen in an archive's name.
        assert path.name.replace("-", "_").startswith(f"dmr_gluon_{dmr_gluon.__version__}")
    number = re.escape(dmr_gluon.__version__)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        assert not re.search(rf"(?<![\d.<>=]){number}(?![\d.])", (REPOSITORY / name).read_text())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_a_wheel_works_in_an_empty_environment(built, tmp_path, kind):
    """And from another folder: dmr, a script, symbols. Downloads what MXNet needs."""
    (path,) = built.glob(kind)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*command):
        done = subprocess.run(
            [str(word) for word in command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    run(sys.executable, "-m", "venv", tmp_path / "venv")
    bin_folder = tmp_path / "venv" / "bin"
    run(bin_folder / "python", "-m", "pip", "install", f"{path}[cpu,digits]")
    run(bin_folder / "dmr", "prepare", "digits", "--out", "data/digits")
    short = ("--epochs", "1", "--steps", "3", "--model", "cifar_dmrnet8")
    run(bin_folder / "train_cifar.py", "--dataset", "digits", *short, "--run-dir", "run")
    assert "test error" in run(bin_folder / "dmr", "eval", "run")
    run(bin_folder / "dmr", "compare", "run", "--html", "report.html")  # its style and script
    code = "from dmr_gluon.symbols import get_symbol as get; print(get('cifar_dmrnet14').name)"
    assert "softmax" in run(bin_folder / "python", "-c", code)
    assert dmr_gluon.__version__ in run(bin_folder / "dmr", "--version")
    assert "no problems" in run(bin_folder / "dmr", "doctor")
