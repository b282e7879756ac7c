"""tools/find-python: the interpreter that the Makefile installs with."""

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY


def find_python(*arguments, path):
    return subprocess.run(
        ["/bin/sh", "tools/find-python", *arguments],
        cwd=REPOSITORY,
        env={"PATH": f"{path}:/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
    )


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_the_python_below_a_virtual_environment_is_found():
    found = find_python(sys.executable, path=os.path.dirname(sys.executable)).stdout.strip()
    assert os.path.isabs(found) and not found.startswith(sys.prefix + os.sep)


def test_a_shim_that_does_not_work_is_passed_over(tmp_path):
    name = "python{}.{}".format(*sys.version_info)
    base = os.path.join(sys.base_prefix, "bin", name)
    program(tmp_path / "a shim", name, "echo not installed >&2; exit 127")
    program(tmp_path / "real", name, f'exec "{base}" "$@"')
    done = find_python("--all", path=f"{tmp_path / 'a shim'}:{tmp_path / 'real'}")
    versions = [line.split()[0] for line in done.stdout.splitlines()]
    assert name[len("python") :] in versions
    for wanted in (name, name[len("python") :]):
        done = find_python(wanted, path=f"{tmp_path / 'a shim'}:{tmp_path / 'real'}")
        assert done.stdout.strip().endswith(name), done


@pytest.mark.parametrize("arguments", [["/nonexistent/python3"], ["sh"], ["python3.7"], ["3.13"]])
def test_a_program_that_does_not_suit_is_refused_in_one_line(tmp_path, arguments):
    done = find_python(*arguments, path=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "3.8 to 3.12" in done.stderr


def install_quietly(log, command):
    return subprocess.run(
        ["sh", REPOSITORY / "tools" / "install-quietly", log, "sh", "-c", command],
        capture_output=True,
        text=True,
    )


def test_what_pip_says_goes_to_a_file(tmp_path):
    log = tmp_path / "install.log"
    done = install_quietly(log, "echo Collecting numpy; echo a warning >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert log.read_text() == "Collecting numpy\na warning\n"


def test_a_failed_installation_shows_the_end_of_that_file(tmp_path):
    log = tmp_path / "install.log"
    done = install_quietly(log, "seq 100; echo no such package >&2; exit 7")
    lines = done.stderr.splitlines()
    assert done.returncode == 7 and len(lines) == 16 and "no such package" in lines
    assert lines[-1].startswith("error: this failed") and str(log) in lines[-1]
