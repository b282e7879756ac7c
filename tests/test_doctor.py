"""dmr doctor: its findings on made-up machines, and on this one."""

import json
import os
import platform
import shutil
import sys
from importlib import metadata

import pytest
from conftest import REPOSITORY

from dmr_gluon import doctor
from dmr_gluon.doctor import OK, PROBLEM, WARNING, examine
from dmr_gluon.system import cuda, machine
from dmr_gluon.system.cuda import GPU

A100, H100 = GPU(0, "A100", (8, 0)), GPU(1, "H100", (9, 0))
TRAINS = {"version": "1.9.1", "error": None}
ON_CPU = {**TRAINS, "devices": {"cpu(0)": "ok"}}
ON_GPU = {**TRAINS, "devices": {"cpu(0)": "ok", "gpu(0)": "ok"}}
HEALTHY = {
    "python": ("CPython", (3, 11, 2), "linux", "x86_64"),
    "requires": ["packaging"],
    "wheels": {"mxnet": "1.9.1"},
    "mxnet": ON_CPU,
    "threads": None,
    "driver": None,
    "gpus": [],
}
WITH_GPU = {"mxnet": ON_GPU, "driver": (11, 4), "gpus": [A100]}


@pytest.fixture
def findings(monkeypatch, tmp_path):
    """Return the findings on a machine that is healthy except for some changes."""

    def find(changes=(), gpu=False):
        facts = {**HEALTHY, **(WITH_GPU if gpu else {}), **dict(changes)}
        implementation, version, system, processor = facts["python"]
        monkeypatch.setattr(platform, "python_implementation", lambda: implementation)
        monkeypatch.setattr(platform, "python_version", lambda: ".".join(map(str, version)))
        monkeypatch.setattr(platform, "machine", lambda: processor)
        monkeypatch.setattr(sys, "version_info", version)
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(machine, "installed_wheels", lambda: facts["wheels"])
        monkeypatch.setattr(machine, "usable_cores", lambda: 8)
        monkeypatch.setattr(doctor, "try_mxnet", lambda: facts["mxnet"])
        monkeypatch.setattr(cuda, "newest_cuda", lambda: facts["driver"])
        monkeypatch.setattr(cuda, "find_gpus", lambda: facts["gpus"])
        monkeypatch.setattr(doctor.metadata, "requires", facts.get("ask", lambda name: requires))
        wheels, requires = facts["wheels"], facts["requires"]
        real = metadata.version
        monkeypatch.setattr(doctor.metadata, "version", lambda name: wheels.get(name) or real(name))
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if facts["threads"] is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", facts["threads"])
        found = examine(str(tmp_path))
        monkeypatch.undo()
        return found

    return find


@pytest.mark.parametrize("gpu", [False, True])
def test_a_healthy_machine_needs_no_remedy(findings, gpu):
    wheels = {"mxnet-cu112": "1.9.1"} if gpu else {"mxnet": "1.9.1"}
    found = findings({"wheels": wheels}, gpu)
    assert {finding.level for finding in found} == {OK}
    assert {finding.subject for finding in found} >= {"Python", "packages", "MXNet", "threads"}
    assert any("A100" in finding.text and "trains" in finding.text for finding in found) == gpu


def not_installed(name):
    raise metadata.PackageNotFoundError(name)


ABSENT = "MXNet is not installed; pip install 'mxnet==1.9.1' for CPUs"
BROKEN = "MXNet cannot be loaded (no libquadmath.so.0); apt-get install libquadmath0"
CRASHED = {"version": "1", "error": "ended by SIGILL", "devices": {}}
FAILED = {**TRAINS, "devices": {"cpu(0)": "out of memory"}}


@pytest.mark.parametrize(
    "changes, level, subject, words, remedy",
    [
        ({"python": ("CPython", (3, 13, 1), "linux", "x86_64")}, PROBLEM, "Python", "3.13", "3.8"),
        ({"python": ("PyPy", (3, 9, 1), "linux", "x86_64")}, PROBLEM, "Python", "PyPy", "CPython"),
        ({"python": ("CPython", (3, 9, 1), "linux", "aarch64")}, PROBLEM, "Python", "a", "x86_64"),
        ({"ask": not_installed}, WARNING, "packages", "not installed", "pip install -e"),
        ({"requires": ["numpy<1"]}, PROBLEM, "packages", "numpy<1", "'numpy<1'"),
        ({"requires": ["no-such"]}, PROBLEM, "packages", "missing", "pip install 'no-such'"),
        ({"wheels": {"mxnet": "1.8.0"}}, PROBLEM, "packages", "==1.9.1", "'mxnet==1.9.1'"),
        ({"mxnet": {"error": ABSENT}}, PROBLEM, "MXNet", "not installed", "mxnet==1.9.1"),
        ({"mxnet": {"error": "x"}}, PROBLEM, "MXNet", "CPU: x", "--force-reinstall"),
        ({"mxnet": {"error": BROKEN}}, PROBLEM, "MXNet", "libquadmath.so.0", "apt-get install"),
        ({"mxnet": CRASHED}, PROBLEM, "MXNet", "SIGILL", "--force-reinstall"),
        ({"mxnet": FAILED}, PROBLEM, "MXNet", "out of memory", "--force-reinstall"),
        ({"mxnet": {**ON_CPU, "error": "SIGSEGV"}}, PROBLEM, "MXNet", "SIGSEGV", "nvidia-smi"),
        ({"threads": "4"}, WARNING, "threads", "=4;", "unset OMP_NUM_THREADS"),
        ({"threads": "many"}, WARNING, "threads", "core (8)", "unset OMP_NUM_THREADS"),
        ({"driver": (12, 4), "gpus": [A100]}, WARNING, "GPUs", "CPUs only", "EXTRA=cu112"),
    ],
)
def test_a_finding_names_its_remedy(findings, changes, level, subject, words, remedy):
    (finding,) = [finding for finding in findings(changes) if finding.level != OK]
    assert (finding.level, finding.subject) == (level, subject)
    assert words in finding.text and remedy in finding.remedy
    assert "\n" not in finding.text + finding.remedy


def test_an_empty_number_of_threads_is_none(findings):
    assert {finding.level for finding in findings({"threads": ""})} == {OK}


@pytest.mark.parametrize(
    "changes, words, remedy",
    [
        ({"driver": (10, 2), "gpus": [A100]}, "CUDA 10.2", "450.80"),
        ({"driver": (11, 4), "gpus": []}, "no GPU", "unset CUDA_VISIBLE_DEVICES"),
        ({"driver": (11, 4), "gpus": [A100, H100]}, "capability 9.0", "--gpus"),
        (
            {"mxnet": {**TRAINS, "devices": {"cpu(0)": "ok", "gpu(0)": "no kernel image"}}},
            "no kernel image",
            "free",
        ),
        ({"mxnet": ON_CPU}, "not tried", "nvidia-smi"),
    ],
)
def test_a_problem_with_gpus(findings, changes, words, remedy):
    found = findings({"wheels": {"mxnet-cu112": "1.9.1"}, **changes}, gpu=True)
    (finding,) = [finding for finding in found if finding.level != OK]
    assert (finding.level, finding.subject) == (PROBLEM, "GPUs")
    assert words in finding.text and remedy in finding.remedy


def test_a_new_gpu_is_no_reason_to_install_the_wheel_for_gpus(findings):
    found = findings({"driver": (12, 4), "gpus": [H100]})
    assert {finding.level for finding in found} == {OK}


@pytest.mark.parametrize("name", ["tqdm", "numpy"])
def test_a_package_that_is_missing_is_a_finding_and_no_traceback(command, digits, name):
    code = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "from dmr_gluon import doctor\n"
        "doctor.try_mxnet = lambda: {'error': 'not tried'}\n"
        f"found = doctor.examine({os.path.dirname(digits)!r})\n"
        "print([finding for finding in found if finding.subject == 'data'])"
    )
    done = command("-c", code)
    assert "problem" in done.stdout and name in done.stdout, done.stderr


def test_no_secret_is_described(monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", "secret")
    monkeypatch.setenv("PS_TOKEN", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(cuda, "find_gpus", lambda: [A100])
    described = json.loads(json.dumps(doctor.describe()))
    assert "secret" not in json.dumps(described)
    assert described["environment"]["OMP_NUM_THREADS"] == "3"
    assert described["gpus"][0]["name"] == "A100"


def test_a_role_with_which_the_import_of_mxnet_never_returns_is_not_tried(monkeypatch):
    monkeypatch.setenv("DMLC_ROLE", "server")
    assert "unset DMLC_ROLE" in doctor.try_mxnet()["error"]


class TestTrying:
    """The process that imports MXNet, with replacements for it."""

    @pytest.fixture
    def tried(self, tmp_path, monkeypatch):
        def run(code, patience=60):
            (tmp_path / "mxnet").mkdir()
            (tmp_path / "mxnet" / "__init__.py").write_text(code)
            # Before what is installed, so the probe takes it for MXNet.
            monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{REPOSITORY}")
            return doctor.try_mxnet(patience)

        return run

    def test_one_that_crashes(self, tried):
        assert tried("import os; os.abort()")["error"] == "ended by SIGABRT"

    def test_one_that_ends_without_a_word(self, tried):
        assert tried("import os; os._exit(3)")["error"] == "ended by status 3"

    def test_one_that_hangs(self, tried):
        assert tried("import time; time.sleep(60)", 3)["error"] == "no answer within 3 s"

    def test_one_that_hangs_after_its_import(self, tried):
        code = (
            "import time\n"
            "print('noise')\n"
            "__version__ = '1'\n"
            "class runtime:\n"
            "    class Features:\n"
            "        def is_enabled(self, name): return False\n"
            "def cpu():\n    time.sleep(60)\n"
        )
        found = tried(code, 5)
        assert (found["version"], found["error"]) == ("1", "no answer within 5 s")

    def test_one_that_raises(self, tried):
        assert tried("raise RuntimeError('broken on purpose')")["error"].endswith(
            "broken on purpose"
        )

    def test_one_that_lacks_a_library(self, tried):
        message = "libquadmath.so.0: cannot open shared object file"
        error = tried(f"raise OSError({message!r})")["error"]
        assert "libquadmath.so.0" in error and "apt-get install" in error

    def test_a_variable_that_mxnet_cannot_read(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "many")
        error = doctor.try_mxnet(60)["error"]
        assert "OMP_NUM_THREADS=many" in error and "; unset" in error


class TestCommand:
    def doctor(self, command, *arguments, **options):
        return command("-m", "dmr_gluon.cli.main", "doctor", *arguments, **options)

    def test_this_machine_trains(self, command, digits):
        root = os.path.dirname(digits)
        done = self.doctor(command, "--json", "--data-root", root)
        findings = json.loads(done.stdout)["findings"]
        by_subject = {finding["subject"]: finding for finding in findings}
        assert by_subject["MXNet"]["level"] == by_subject["data"]["level"] == OK
        assert "1.9.1" in by_subject["MXNet"]["text"]
        texts = [finding["text"] for finding in findings if finding["subject"] == "data"]
        assert any(f"digits in {digits}: 1,437 train, 360 test" in text for text in texts)
        levels = [finding["level"] for finding in findings]
        assert done.returncode == (1 if PROBLEM in levels else 0) and done.stderr == ""

    def test_a_damaged_set_is_a_problem_and_ends_with_1(self, command, digits, tmp_path):
        shutil.copytree(digits, tmp_path / "data" / "digits")
        with open(tmp_path / "data" / "digits" / "train.rec", "r+b") as file:
            file.write(b"damaged!")
        (tmp_path / "mxnet").mkdir()
        (tmp_path / "mxnet" / "__init__.py").write_text("raise OSError('libx.so: not found')")
        path = f"{tmp_path}{os.pathsep}{REPOSITORY}"
        done = self.doctor(command, cwd=tmp_path, PYTHONPATH=path)
        assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
        assert "problem  data" in done.stdout and "train.rec" in done.stdout
        assert "problem  MXNet" in done.stdout and "libx.so" in done.stdout
        assert done.stdout.splitlines()[-1] == "2 problems"
