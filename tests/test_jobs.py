"""The commands of docs/your_own.md, to the letter, on a few images."""

import os
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY
from test_own_blocks import from_docs
from test_recordio_sets import im2rec, picture

# Parts of each are in the fast tests too: test_own_blocks.py, test_finetuning.py and
# test_recordio_sets.py.
pytestmark = pytest.mark.slow

#: What makes a training short.
SHORT = "--steps 3 --batch-size 8"


def commands(title):
    """Return the command lines of a section."""
    text = (REPOSITORY / "docs" / "your_own.md").read_text().split(f"## {title}")[1]
    return re.search(r"```bash\n(.*?)```", text, re.S)[1].strip().splitlines()


def run_all(title, folder):
    """Run a section's commands in a folder, and return what each printed."""
    programs = {"dmr": [sys.executable, "-m", "dmr_gluon.cli"], "python": [sys.executable]}
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    said = {}
    for line in commands(title):
        words = shlex.split(line + (f" {SHORT}" if " train" in line.split(" --")[0] else ""))
        words = [
            str(REPOSITORY / word) if re.fullmatch(r"train_\w+\.py", word) else word
            for word in words
        ]
        done = subprocess.run(
            programs[words[0]] + words[1:],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        said[line] = done.stdout
    return said


def save(path, seed, height, width):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(seed, height, width))


def test_a_block_of_ones_own(tmp_path):
    (tmp_path / "my_blocks.py").write_text(from_docs("my_blocks.py"))
    save(tmp_path / "digit.png", 0, 32, 32)
    said = run_all("A block of your own", tmp_path)
    *_, layers, _, _, compared, _, predicted = said.values()
    assert "se_squeeze" in layers and "cifar_se_merge_and_run8" in compared
    assert len(predicted.split()) == 11  # the file, and five labels with their probabilities


def test_photographs(tmp_path, plain_bundle):
    random = np.random.RandomState(0)
    for number in range(24):
        height, width = random.randint(20, 90, 2)
        save(
            tmp_path / "photographs" / ("cat", "dog")[number % 2] / f"{number}.jpg",
            number,
            height,
            width,
        )
    save(tmp_path / "photograph.jpg", 3, 30, 90)
    os.symlink(plain_bundle, tmp_path / "trained")
    pytest.importorskip("onnxruntime")
    said = run_all("A few hundred photographs", tmp_path)
    trained = next(text for line, text in said.items() if line.startswith("dmr train"))
    assert "begins from trained (bundle, cifar_dmrnet8" in trained
    assert "the classifier is new (other classes)" in trained
    (*_, plain, portable) = said.values()
    assert plain.count("cat") >= 24 and "dog" in portable
    assert (tmp_path / "confusion.csv").exists() and (tmp_path / "mine.png").exists()


def test_recordio_that_is_there(tmp_path):
    for split, count in (("train", 16), ("test", 6)):
        for number in range(count):
            where = tmp_path / f"images_{split}" / ("cat", "dog")[number % 2]
            save(where / f"{number}.jpg", number, 40 + number, 60)
        im2rec(tmp_path, f"mine_{split}", f"images_{split}", "--list", "--recursive")
        im2rec(tmp_path, f"mine_{split}", f"images_{split}", "--quality", "90")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    save(tmp_path / "photograph.jpg", 3, 70, 50)
    said = run_all("RecordIO and Module scripts", tmp_path)
    assert re.search(r"\d% +(cat|dog)", list(said.values())[-1])
    assert not list((tmp_path / "data" / "records").glob("*.rec"))
