"""What a refusal advises is done to the letter, and the refusal is gone."""

import ast
import os
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from dmr_gluon.cli import main as cli
from dmr_gluon.errors import DMRError

REPOSITORY = Path(__file__).resolve().parent.parent


#: What stands for the beginnings of trainings: of a step on a small set or on any, on photographs
#: with ImageNet's recipe, and one whose loss is soon infinite.
ABBREVIATIONS = {
    "MINE": "CIFAR --data-dir data/mine",
    "CIFAR": "train_cifar.py --model cifar_dmrnet8 --steps 1 --batch-size 4",
    "CROPS": "train_imagenet.py --model cifar_dmrnet8 --steps 1 --batch-size 4 --image-size 32 "
    "--train-short-side 32,40 --eval-short-side 32",
    "LOST": "train_cifar.py --model cifar_dmrnet8 --batch-size 4 --epochs 2 --lr 1e10 "
    "--data-dir data/mine",
}

#: A command that is refused; words of the advice; commands that follow it, which must all go
#: through. After ``else`` stands one that may be refused for another reason, since what it asks for
#: is not here. {0} is the command that the refusal quotes.
CASES = """
# Data that is not there
CIFAR --dataset digits
    says make it with '
    then {0}
    then CIFAR --dataset digits
CIFAR --dataset pets
    says make it with '
    then {0}
    then CIFAR --dataset pets
CIFAR --data-dir pets
    says make it with '
    then {0}
    then CIFAR --data-dir pets
CIFAR --dataset digits --data-dir pets
    says make it with '
    then {0}
    then CIFAR --dataset digits --data-dir pets
dmr check pets
    says or name the folder of another set
    then dmr check data/mine
MINE --dataset digits
    says ; leave out one
    then MINE
    then dmr prepare digits --out data/digits
    then CIFAR --dataset digits
dmr eval runs/short --data-dir data/mine
    says name the right one with --data-dir
    then dmr eval runs/short --data-dir digits
dmr eval runs/short --split validation
    says ; name one of
    then dmr eval runs/short --split test
# Data of another form
CIFAR --data-dir data/photos
    says make it again from the images with 'dmr prepare folder SRC --resize
    then {0}
    then CIFAR --data-dir DIR
CIFAR --data-dir data/photos
    says or scale and crop them with train_imagenet.py
    then CROPS --data-dir data/photos
MINE --image-size 40
    says give --image-size
    then MINE --image-size 32
MINE --train-short-side 32,40 --eval-short-side 32
    says set pad to 0, or leave out
    then MINE --train-short-side 32,40 --eval-short-side 32 --pad 0
    then MINE
MINE --train-short-side 32,40 --pad 0
    says give both train_short_side and eval_short_side
    then MINE --train-short-side 32,40 --eval-short-side 32 --pad 0
    then MINE --pad 0
MINE --pca-noise 0.1
    says needs train_short_side
    then MINE --pca-noise 0.1 --train-short-side 32,40 --eval-short-side 32 --pad 0
CROPS --data-dir data/photos --image-size 48
    says lower image_size or raise
    then CROPS --data-dir data/photos --image-size 32
# Data that is damaged
rm data/mine/train.idx && MINE
    says bytes; prepare the data set again with --overwrite
    then dmr prepare folder images --out data/mine --overwrite
    then MINE
truncate data/mine/train.rec && MINE
    says bytes; prepare the data set again with --overwrite
    then dmr prepare folder images --out data/mine --overwrite
    then MINE
truncate data/mine/manifest.json && MINE
    says prepare the data set again with --overwrite
    then dmr prepare folder images --out data/mine --overwrite
    then MINE
# Preparing
dmr prepare digits --out data/mine
    says choose another --out, or replace it with --overwrite
    then dmr prepare digits --out data/other
    then dmr prepare digits --out data/mine --overwrite
dmr prepare folder images --out o --name cifar10
    says ; give another with --name
    then dmr prepare folder images --out o --name mine
dmr prepare folder images --out o --resize 32,32
    says write 32x32 (width x height)
    then dmr prepare folder images --out o --resize 32x32
dmr prepare folder images --out o --fit pad
    says needs an exact size; add --resize 32x32
    then dmr prepare folder images --out o --fit pad --resize 32x32
dmr prepare folder images --out o --resize 48x32
    says name a square, or add --fit stretch
    then dmr prepare folder images --out o --resize 48x32 --fit stretch
dmr prepare folder images --out o --seed 2
    says does nothing without --test-share; leave it out
    then dmr prepare folder images --out o
dmr prepare folder images --out o --test-share 0.2
    says is split; leave out --test-share
    then dmr prepare folder images --out o
dmr prepare recordio --train data/mine/train.rec --out data/mine
    says and could be replaced; choose another --out
    then dmr prepare recordio --train data/mine/train.rec --out o
dmr prepare recordio --train data/mine/train.rec --classes x.log --out o
    says ; name all classes with --classes, or
    then dmr prepare recordio --train data/mine/train.rec --classes names.txt --out o
dmr prepare recordio --train data/mine/train.rec --out o && rm data/mine/train.rec && dmr show o
    says bytes; put it back, or prepare the data set again with --overwrite
    then dmr prepare recordio --train data/photos/train.rec --out o --overwrite
    then dmr show o
dmr prepare folder images/train --out o
    says add some, or, for a tree that is not split into train/ and test/, --test-share 0.2
    then dmr prepare folder images/train --out o --test-share 0.2
dmr prepare svhn --source svhn --out o --svhn-split authors
    says accept a partial set with --partial
    then dmr prepare svhn --source svhn --out o --svhn-split authors --partial
dmr prepare svhn --source images --out o --partial
    says name another source
    then dmr prepare svhn --source svhn --out o --partial --svhn-split authors
dmr prepare imagenet --source tree --out o
    says accept a partial set with --partial
    then dmr prepare imagenet --source tree --out o --partial
# Training
MINE --run-dir runs/short
    says is there); continue a run with --resume, or choose another --run-dir
    then train_cifar.py --run-dir runs/short --resume --epochs 2
    then MINE --run-dir runs/other
train_cifar.py --resume
    says needs the run to continue: --run-dir RUN
    then train_cifar.py --resume --run-dir runs/short
train_cifar.py --resume --run-dir runs/short --recipe paper
    says leave out --recipe
    then train_cifar.py --resume --run-dir runs/short
train_cifar.py --resume --run-dir runs/short --seed 2
    says resume it with the same, or
    then train_cifar.py --resume --run-dir runs/short --seed 1
    then MINE --seed 2 --run-dir runs/x
train_cifar.py --resume --run-dir runs/short --lr 0.01
    says would change nothing; leave it out
    then train_cifar.py --resume --run-dir runs/short
MINE --estimate --run-dir x
    says leaves nothing behind; leave out
    then MINE --estimate
MINE --schedule cosine --lr-drops 0.5
    says leave it out with a cosine
    then MINE --schedule cosine
    then MINE --lr-drops 0.5 --schedule steps
CIFAR --data-dir digits --recipe authors
    says ; leave out --recipe
    then CIFAR --data-dir digits
MINE --gpus 0 --cpus 2
    says give --gpus or --cpus, not both
    then MINE --cpus 2
MINE --gpus x
    says ; write 0, 0-7 or 0,2,4-6
    else MINE --gpus 0
MINE --kv-store nccl
    says is for GPUs; leave it out
    then MINE
MINE --batch-size 1 --cpus 2
    says give each at least one image
    then MINE --batch-size 2 --cpus 2
LOST --run-dir runs/lost
    says a lower --lr with --resume
    then LOST --run-dir runs/other --lr 0.1
    then train_cifar.py --run-dir runs/lost --resume --lr 0.1
# Fine-tuning
MINE --resume --run-dir runs/short --init-from bundle
    says checkpoint; leave out --init-from
    then train_cifar.py --resume --run-dir runs/short
train_cifar.py --data-dir data/mine --steps 1 --init-from runs/short --model cifar_dmrnet14
    says another, or train its network with --model
    then train_cifar.py --data-dir data/mine --steps 1 --init-from runs/short --model cifar_dmrnet8
    then train_cifar.py --data-dir data/mine --steps 1 --init-from runs/short
CROPS --data-dir data/photos --crop-area 0.35,1
    says give eval_short_side, and set train_short_side to none and aspect_change to 0
    then CROPS --data-dir data/photos --crop-area 0.35,1 --train-short-side none
MINE --freeze body
    says the network has the parts features, stem, stage1, stage2, stage3, head
    then MINE --freeze features
MINE --freeze features,head
    says leave out one of them
    then MINE --freeze features
# dmr train
dmr train --data-dir data/mine --seeds 3
    says is for the paper's tables; leave it out
    then dmr train --data-dir data/mine --model cifar_dmrnet8 --steps 1
dmr train --table 2 --init-from runs/short
    says use it with --data-dir, or with the training scripts
    then dmr train --data-dir data/mine --init-from runs/short --steps 1
    then MINE --init-from runs/short
dmr train
    says say what to train: --table 2 or --figure 6 (--list shows what there is), or
    then dmr train --list
    then dmr train --data-dir data/mine --model cifar_dmrnet8 --steps 1
    else dmr train --table 2
    else dmr train --figure 6
dmr train --list --epochs 3
    says trains nothing;
    then dmr train --list
dmr train --table 2 --run-dir x
    says use --out
    else dmr train --table 2 --out x
dmr train --table 2 --resume
    says leave it out: runs
    else dmr train --table 2
dmr train --table 2 --model dmrnet
    says use --network
    else dmr train --table 2 --network dmrnet
dmr train --table 2 --seed 3
    says use --seeds and --first-seed
    else dmr train --table 2 --seeds 1 --first-seed 3
dmr train --table 2 --estimate
    says give it to the training script
    then MINE --estimate
# Runs
dmr eval runs/short --form folded
    says is for bundles; leave it out
    then dmr eval runs/short
dmr eval bundle --epoch 1
    says one epoch's network; leave it out
    else dmr eval bundle
dmr eval bundle
    says ; add --data-dir
    else dmr eval bundle --data-dir data/mine
dmr eval images
    says name the folder that a training script wrote
    then dmr eval runs/short
rm runs/short/model-0002.params && dmr eval runs/short
    says ; train it with --run-dir
    then train_cifar.py --run-dir runs/short --resume
    then dmr eval runs/short
dmr compare x.log
    says name a run's folder or log
    then dmr compare runs/short
dmr status images
    says name a folder that a training has written
    then dmr status runs/short
dmr plot runs/short runs/short
    says goes; give it
    then dmr plot runs/short runs/short --out c.png
dmr export runs/short --out o --int8-limit 1
    says is for INT8; leave it out
    then dmr export runs/short --out o
dmr export runs/short --out runs/short
    says whose files would be overwritten; choose another --out
    then dmr export runs/short --out o
dmr publish bundle store --epoch 2
    says is a bundle of one epoch; leave out --epoch
    then dmr publish bundle store
dmr predict bundle images/test/a/0.png --form folded
    says (dmr export --forms)
    then dmr export runs/short --out o --forms folded
    then dmr predict o images/test/a/0.png --form folded
# Networks
dmr networks --classes 5
    says is for one network: dmr networks NAME
    then dmr networks cifar_dmrnet8 --classes 5
dmr paths cifar_dmrnet8 --plot p.png
    says draws the networks of Figure 3; leave out the names
    then dmr paths --plot p.png
"""


def cases():
    """(refused, words, commands that follow) of each."""
    found = []
    for line in CASES.strip().splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind in ("then", "else"):
            found[-1][2].append(line.strip())
        elif kind == "says":
            found[-1][1] = rest
        elif kind != "#":
            found.append([line, None, []])
    return found


@pytest.fixture(scope="module")
def origin(digits, short_run, plain_bundle, tmp_path_factory):
    """Small sets, a run and a bundle, copied for each case."""
    import cv2
    from scipy.io import savemat

    folder = tmp_path_factory.mktemp("origin")
    random = np.random.RandomState(0)

    def draw(path, height, width):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), random.randint(0, 256, (height, width, 3)).astype(np.uint8))

    for name in "ab":
        for number in range(5):
            draw(folder / f"images/train/{name}/{number}.png", 32, 32)
            draw(folder / f"photos/train/{name}/{number}.png", 40 + number, 60)
            draw(folder / f"tree/train/n0000000{'ab'.index(name)}/{number}.JPEG", 50, 60)
        draw(folder / f"images/test/{name}/0.png", 32, 32)
        draw(folder / f"photos/test/{name}/0.png", 60, 40)
        draw(folder / f"tree/val/n0000000{'ab'.index(name)}/0.JPEG", 50, 60)
    (folder / "x.log").write_text(
        "2016-11-25 08:00:00,000 Node[0] Epoch[0] Validation-accuracy=0.9\n"
    )
    (folder / "names.txt").write_text("a\nb\n")
    (folder / "svhn").mkdir()
    for part in ("train", "extra", "test"):
        pixels = random.randint(0, 256, (32, 32, 3, 20)).astype(np.uint8)
        content = {"X": pixels, "y": np.repeat(np.arange(1, 11), 2).astype(np.uint8)[:, None]}
        savemat(folder / "svhn" / f"{part}_32x32.mat", content)
    shutil.copytree(short_run, folder / "runs/short")
    shutil.copytree(plain_bundle, folder / "bundle")
    (folder / "digits").symlink_to(digits)
    for source, name in (("images", "mine"), ("photos", "photos")):
        cli._main(["prepare", "folder", str(folder / source), "--out", str(folder / "data" / name)])
    return folder


@pytest.fixture
def run(origin, tmp_path, monkeypatch):
    """Run a command line as a shell would, but in this process."""
    shutil.copytree(origin, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")

    def call(line):
        for short, text in ABBREVIATIONS.items():
            line = re.sub(rf"\b{short}\b", text, line)
        for command in line.split(" && "):
            program, *arguments = shlex.split(command)
            monkeypatch.setattr(sys, "argv", [program, *arguments])
            if program == "rm":
                os.remove(arguments[0])
            elif program == "truncate":
                os.truncate(arguments[0], 100)
            elif program == "dmr":
                cli._main(arguments)
            else:
                runpy.run_path(str(REPOSITORY / program), run_name="script")["main"]()

    return call


@pytest.mark.parametrize(
    "refused, words, follow",
    [
        # An export proves what it writes in other processes.
        pytest.param(*case, marks=pytest.mark.slow if "export" in case[0] + case[2][0] else ())
        for case in cases()
    ],
)
def test_doing_what_a_refusal_says_removes_it(refused, words, follow, run):
    with pytest.raises(DMRError) as refusal:
        run(refused)
    message = str(refusal.value)
    assert words in message
    # SRC stands for the reader's own folder.
    quoted = re.findall("'(dmr .*?)'", message.replace(" SRC ", " images "))
    for line in follow:
        kind, _, command = line.partition(" ")
        try:
            run(command.format(*quoted))
        except DMRError as other:
            assert kind == "else" and words not in str(other), other


#: Advice that is not tried here, by words of it, and why.
UNTRIED = {
    "--full is for the published numbers": "test_device_checks.py has both command lines",
    # It would take minutes, many processes or more of a machine than there is.
    "if memory was short": "memory would have to run out",
    "say what the workers run: ": "test_launch.py starts such jobs",
    "needs scheduler and servers, but ": "test_distributed.py starts such a job",
    "this is a worker of a job, which": "test_distributed.py starts such a job",
    "several workers need one run directory": "test_distributed.py starts such a job",
    "is being trained by another process; ": "needs another process; test_killed.py",
    "another process is preparing ": "needs another process; test_records.py",
    "cannot write to ": "needs a full disk; test_records.py",
    "needs training images to find its ranges with": "INT8 takes a while; test_export.py",
    "percentage points more errors than the network": "INT8 takes a while; test_export.py",
    # It would have to be downloaded or installed, or is the real data.
    "; dmr doctor reports the reason": "would report the same missing GPU; test_doctor.py",
    "is for several devices; ": "needs a GPU; test_training.py",
    "is available to registered users only: ": "needs ImageNet",
    "take it from elsewhere with": "needs a server; test_download.py",
    "; name one of them with --source": "needs the archive of CIFAR; test_content.py",
    "the digits come with scikit-learn": "installs packages",
    "the form onnx needs": "installs packages",
    "GluonCV cannot be imported": "installs packages",
    "needs tensorboardX (": "installs packages",
    "MXNet 1.9.1 needs NumPy 1; ": "installs packages",
    "MXNet is not installed; ": "installs packages",
    "is not registered here; import": "of a call in Python; test_own_blocks.py",
    "is MXNet's BatchNorm; build": "needs several GPUs; test_own_blocks.py",
    "name the version in the run with --plugin": "test_own_blocks.py does it",
    "was started without a plugin; ": "needs a run and a plugin; test_own_blocks.py",
    # The advice is more than a command.
    "name another --markdown": "a file that cannot be read; test_compare.py",
    "has other classes than the bundle; ": "needs the right set; test_mistakes.py",
    "a bundle runs on one GPU; ": "needs several GPUs",
    "; make a store of your own with": "of a call in Python; test_store.py",
    "name a folder that dmr publish wrote": "of a call in Python; test_store.py",
    "exists and belongs to no bundle": "as with a run in the place of the bundle",
    "; see ": "the parser's own; test_cli.py",
    "; give the same flags ": "needs all of the paper's sets; test_experiments.py",
    "did not give all the same sums; ": "test_training.py breaks a replica",
}


def advice():
    """The text of every refusal that names a flag or a command to use, with the place of it."""
    for path in [*sorted((REPOSITORY / "dmr_gluon").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DMRError"):
                continue
            parts = [
                value.value if isinstance(value, ast.Constant) else "\0"
                for each in node.args
                for value in getattr(each, "values", [each])
            ]
            text = "".join(part for part in parts if isinstance(part, str))
            if re.search(r"[;:,].*(--[a-z]|\bdmr [a-z]|pip install)", text) and not re.search(
                r"must be|: there are", text
            ):
                yield f"{path.relative_to(REPOSITORY)}:{node.lineno}", text


def test_all_advice_is_tried_or_listed_with_the_reason():
    tried = [*UNTRIED, *(words for _, words, _ in cases())]
    missing = [
        f"{place}: {text}" for place, text in advice() if not any(words in text for words in tried)
    ]
    assert not missing, "\n".join(missing)
    texts = [text for _, text in advice()]
    assert not [words for words in UNTRIED if not any(words in text for text in texts)]
