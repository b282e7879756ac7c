"""README and docs: every command is one that our parsers accept, every import one that works."""

import argparse
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from dmr_gluon.cli import main as cli

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
#: What the first word of a command line may be, besides shell syntax.
_PROGRAMS = r"(?:\w+=\S+ +)*(dmr|python|make) +(?![a-z]+:)"
#: Values for numbers and files that the reader has to give.
_PLACEHOLDERS = {"SPEED": "200", "N": "1", "EPOCH": "1", "SECONDS": "1"}


def commands_of(path):
    """Return the commands in the code blocks of a document, without comments, each on one line."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    found, fence = [], None
    for line in text.splitlines():
        if line.startswith("```"):
            fence = line.strip("`") if fence is None else None
        elif line.startswith("    ") or fence in ("sh", "bash", ""):
            line = re.split(r"\s+#", line.strip())[0]
            if fence != "python" and re.match(_PROGRAMS, line):
                found.append(re.sub(r"\s+", " ", line))
    return found


COMMANDS = sorted({command for path in DOCUMENTS for command in commands_of(path)})


class Parsed(Exception):
    """A command line was accepted."""


@pytest.fixture
def parse(monkeypatch):
    """Give a command line to the program's own parser; returns the options that it found."""
    real = argparse.ArgumentParser.parse_args

    def parse_args(self, arguments=None, namespace=None):
        raise Parsed(real(self, arguments, namespace))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)

    def run(words):
        program, *arguments = words
        if program == "dmr":
            return cli.parse(arguments)
        script, *arguments = arguments
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        monkeypatch.syspath_prepend(str((REPOSITORY / script).parent))
        with pytest.raises(Parsed) as parsed:
            runpy.run_path(str(REPOSITORY / script))["main"]()
        return parsed.value.args[0]

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_the_programs_accept_what_is_documented(command, parse):
    if command.startswith("make "):
        _, *targets = [word for word in shlex.split(command) if "=" not in word]
        makefile = (REPOSITORY / "Makefile").read_text()
        assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)
        return
    # Optional parts too; the first of alternatives.
    text = re.sub(r"\[(.*?)(?: \| [^\]]*)?\]", r"\1", command).split(" > ")[0]
    text = text.replace(" ...", "").replace(" && break", "")
    text = re.sub(r"^(\w+=\S+ +)+", "", text)
    for name, value in _PLACEHOLDERS.items():
        text = re.sub(rf"(?<= ){name}\b", value, text)
    words = shlex.split(text)
    if words[0] == "python" and not re.match(r"train_\w+\.py$", words[1]):
        ours = (REPOSITORY / words[1]).exists() or words[1].endswith("/predict_onnx.py")
        assert ours or words[1] == "-m", words[1]
        return
    options = parse(words)
    if getattr(options, "flags", None):  # dmr train: what the training gets
        parse(["python", "train_cifar.py", *options.flags])
    if getattr(options, "worker", None):  # dmr launch: what the workers run
        parse(options.worker[options.worker[0] == "--" :])


def test_a_flag_that_is_not_there_is_noticed(parse):
    with pytest.raises(Exception, match="--no-such-flag"):
        parse(shlex.split("dmr compare runs --no-such-flag"))


def test_blocks_of_python_are_whole_and_import_what_is_there():
    for path in DOCUMENTS:
        blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
        for block in blocks:
            compile(block, str(path), "exec")
            for line in re.findall(r"^(?:from dmr_gluon|import dmr_gluon).*$", block, re.M):
                exec(line, {})


def test_shell_programs_in_the_documents_are_whole():
    """``sh`` can at least parse blocks of sh."""
    shell = shutil.which("sh")
    for path in DOCUMENTS:
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
            done = subprocess.run([shell, "-n"], input=block, capture_output=True, text=True)
            assert done.returncode == 0, f"{path.name}: {done.stderr}"
