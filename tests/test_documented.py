"""What README and docs tell people to type: listed, parsed, and run."""

import argparse
import ast
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from documented import (
    COMMANDS,
    DOCUMENTS,
    PLACEHOLDERS,
    REPOSITORY,
    By,
    Run,
    as_it_is_run,
    blocks_of,
    commands_of,
)
from test_imagenet import write as write_imagenet
from test_official import cifar, tar_of, write_svhn

from dmr_gluon.cli import main as cli


def test_every_command_of_the_documents_is_listed_and_no_other():
    documented = {command for path in DOCUMENTS for command in commands_of(path)}
    assert documented - set(COMMANDS) == set(), "list it in tests/documented.py"
    assert set(COMMANDS) - documented == set(), "no document has it any more"


def test_the_tests_that_are_named_are_there():
    for command, how in COMMANDS.items():
        if not isinstance(how, By) or "::" not in how.test:
            continue
        file, name = how.test.split("::")
        tree = ast.parse((REPOSITORY / "tests" / file).read_text())
        assert name in {getattr(node, "name", None) for node in ast.walk(tree)}, command


class Parsed(Exception):
    """A command line was taken."""


@pytest.fixture
def parse(monkeypatch):
    """Give the words of a command to the program's own parser; the options that it has found."""
    real = argparse.ArgumentParser.parse_args

    def parse_args(self, arguments=None, namespace=None):
        raise Parsed(real(self, arguments, namespace))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)

    def run(words):
        program, *arguments = words
        with pytest.raises(Parsed) as parsed:
            if program == "dmr":
                cli._main(arguments)
            else:
                script, *arguments = arguments
                monkeypatch.setattr(sys, "argv", [script, *arguments])
                runpy.run_path(str(REPOSITORY / script))["main"]()
        return parsed.value.args[0]

    return run


#: What is to be put for a number that the reader has to give.
_NUMBERS = {"SPEED": "200", "N": "1", "EPOCH": "1", "DIR": "folder", "PREFIX": "prefix"}
_OURS = re.compile(r"(dmr|python train_\w+\.py)\b")


@pytest.mark.parametrize("command", filter(_OURS.match, COMMANDS))
def test_the_parsers_take_what_is_documented(command, parse):
    # What is optional too; of alternatives the first.
    text = re.sub(r"\[(.*?)(?: \| [^\]]*)?\]", r"\1", command).split(" > ")[0]
    text = text.replace(" ...", "").replace(" && break", "")
    for name, value in {**PLACEHOLDERS, **_NUMBERS}.items():
        text = re.sub(rf"(?<= ){name}\b", value, text)
    options = parse(shlex.split(text))
    if getattr(options, "flags", None):  # dmr train: what goes to the training
        parse(["python", "train_cifar.py", *options.flags])
    if getattr(options, "worker", None):  # dmr launch: what the workers run
        worker = options.worker[options.worker[0] == "--" :]
        assert worker[:1] == ["python"]
        parse(worker)


def test_a_flag_that_is_not_there_is_noticed(parse):
    with pytest.raises(Exception, match="--no-such-flag"):
        parse(shlex.split("dmr compare runs --no-such-flag"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder as a reader has it: the repository's programs, images, archives."""
    folder = tmp_path_factory.mktemp("documented")
    for name in ("train_cifar.py", "train_svhn.py", "train_imagenet.py", "symbols", "benchmarks"):
        (folder / name).symlink_to(REPOSITORY / name)
    random = np.random.RandomState(0)
    places = [
        f"IMAGES/{split}/{name}" for split in ("train", "test") for name in ("cat", "dog", "bird")
    ]
    for place in (*places, "folder", "holiday", "2024/may", "."):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(40 if "train" in place else 6):
            name = "photo.jpg" if place == "." else f"{number}.png"
            image = random.randint(0, 256, (32, 32, 3)).astype(np.uint8)
            cv2.imwrite(str(folder / place / name), image)
    for number, file in ((10, "cifar-10-python.tar.gz"), (100, "cifar-100-python.tar.gz")):
        tar_of(folder / file, cifar(number, "python", per_batch=20)[0])
    (folder / "svhn").mkdir()
    write_svhn(folder / "svhn", {"train": 3, "extra": 2, "test": 1})
    write_imagenet(folder / "imagenet")
    return folder


@pytest.mark.slow
def test_every_command_runs(workspace):
    """Those that are not tested elsewhere, one after the other; python and dmr are this one's."""
    bin_folder = workspace / "bin"
    bin_folder.mkdir()
    for name, words in (("python", ""), ("dmr", " -m dmr_gluon.cli.main")):
        # A link to the Python of a virtual environment would be one outside of it.
        (bin_folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        (bin_folder / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
    }
    failed = []
    for command, how in COMMANDS.items():
        if not isinstance(how, Run):
            continue
        line = as_it_is_run(command)
        done = subprocess.run(
            line, shell=True, cwd=workspace, env=environment, capture_output=True, text=True
        )
        print(f"{done.returncode} {line}", flush=True)
        # dmr doctor ends with 1 where this machine has a problem.
        status = 1 if line.startswith("dmr doctor") else 0
        if done.returncode not in (0, status) or "Traceback" in done.stderr:
            failed.append(f"{line}\n{done.stdout[-500:]}{done.stderr[-1000:]}")
    assert not failed, "\n\n".join(failed)
    _run_blocks(workspace, environment)


def _run_blocks(workspace, environment):
    """The documents' blocks of Python, those of one document as one program."""
    before = {
        # What the reader has by then.
        "deploying.md": "import numpy\nbatch = numpy.zeros((2, 3, 32, 32), 'float32')\n",
    }
    for path in DOCUMENTS:
        blocks = blocks_of(path)
        if not blocks:
            continue
        code = before.get(path.name, "") + "\n".join(blocks)
        # Of the network that the commands before have published.
        code = code.replace('"cifar_dmrnet56", pretrained', '"cifar_dmrnet14", pretrained')
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=workspace,
            env=environment,
            capture_output=True,
            text=True,
        )
        print(f"{done.returncode} {len(blocks)} blocks of {path.name}", flush=True)
        assert done.returncode == 0, f"{path.name}:\n{done.stderr[-2000:]}"


def test_the_list_can_be_printed():
    done = subprocess.run(
        [sys.executable, "tests/documented.py"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stdout.count("\n") == len(COMMANDS) + 2 and not done.returncode


def test_shell_programs_in_the_documents_are_whole():
    """Blocks of sh can at least be read by sh."""
    shell = shutil.which("sh")
    for path in DOCUMENTS:
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
            done = subprocess.run([shell, "-n"], input=block, capture_output=True, text=True)
            assert done.returncode == 0, f"{path.name}: {done.stderr}"
