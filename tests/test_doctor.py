"""dmr doctor: what it makes of made-up machines, and of this one."""

import copy
import json
import os
import shutil

import pytest
from conftest import REPOSITORY

from dmr_gluon import doctor as gathering
from dmr_gluon.doctor import OK, PROBLEM, WARNING, judge
from dmr_gluon.system import cuda

GB = 1 << 30
HEALTHY = {
    "dmr_gluon": {"version": "0.1.0", "path": "/somewhere/dmr_gluon"},
    "system": {"system": "Linux", "machine": "x86_64"},
    "python": {
        "version": "3.11.2",
        "implementation": "CPython",
        "executable": "/somewhere/bin/python",
    },
    "processor": {
        "name": "A processor",
        "cores": 8,
        "instructions": ["sse4_1", "avx2", "avx512f"],
    },
    "memory": {"total": 64 * GB, "available": 60 * GB, "limit": None},
    "disk": {"path": "/somewhere", "free": 500 * GB, "total": 900 * GB},
    "environment": {},
    "packages": {"numpy": "1.23.5", "matplotlib": "3.7.5", "opencv-python-headless": "4.8.1.78"},
    "unmet": [],
    "wheels": {"mxnet": "1.9.1"},
    "mxnet": {
        "error": None,
        "seconds": 1.9,
        "version": "1.9.1",
        "path": "/somewhere/mxnet/__init__.py",
        "features": ["MKLDNN", "OPENCV"],
        "cpu": "ok",
        "gpus": {},
    },
    "cuda": {"libraries": {}, "driver": None},
    "data": {
        "root": "data",
        "error": None,
        "sets": [
            {
                "folder": "data/cifar10",
                "name": "cifar10",
                "images": {"train": 50_000, "test": 10_000},
                "problem": None,
            }
        ],
    },
}
A100 = {"number": 0, "name": "A100", "capability": "8.0", "runs": True}
H100 = {"number": 1, "name": "H100", "capability": "9.0", "runs": False}
#: What a machine with a GPU has beside that.
WITH_GPU = {
    "wheels": {"mxnet-cu112": "1.9.1"},
    "mxnet/features": ["CUDA", "CUDNN", "MKLDNN", "OPENCV"],
    "mxnet/gpus": {"0": "ok"},
    "cuda/libraries": {name: f"/somewhere/nvidia/{name}" for name in cuda.LIBRARIES},
    "cuda/driver": {"cuda": "11.4", "gpus": [A100]},
}


def machine(changes=(), gpu=False):
    """A healthy one but for some of its facts."""
    facts = copy.deepcopy(HEALTHY)
    for name, value in [*(WITH_GPU.items() if gpu else ()), *dict(changes).items()]:
        *path, last = name.split("/")
        place = facts
        for key in path:
            place = place[key]
        place[last] = copy.deepcopy(value)
    return facts


def others(facts):
    """What is not in order."""
    return [finding for finding in judge(facts) if finding.level != OK]


@pytest.mark.parametrize("gpu", [False, True])
def test_a_healthy_machine_has_nothing_to_mend(gpu):
    found = judge(machine(gpu=gpu))
    assert {finding.level for finding in found} == {OK}
    subjects = {finding.subject for finding in found}
    assert subjects >= {"Python", "packages", "MXNet", "processor", "threads", "GPUs", "memory"}
    assert any("A100" in finding.text and "trains" in finding.text for finding in found) == gpu


ABSENT = "MXNet is not installed; pip install 'mxnet==1.9.1' for CPUs"
BROKEN = {"error": "MXNet cannot be loaded (no libquadmath.so.0); apt-get install libquadmath0"}
TWO_OPENCVS = {"opencv-python": "4.10.0.84", "opencv-python-headless": "4.8.1.78"}
DAMAGED = {
    "folder": "data/x",
    "name": "x",
    "images": {},
    "problem": "the record file data/x/train.rec is missing; prepare the data set again",
}


@pytest.mark.parametrize("name", ["tqdm", "packaging", "cv2"])
def test_a_package_that_is_missing_is_a_fact_and_no_traceback(command, tmp_path, name):
    """On just these machines it is needed most."""
    code = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "from dmr_gluon import doctor\n"
        "doctor._try_mxnet = lambda *arguments: {'error': 'not tried'}\n"
        f"found = doctor.gather({str(tmp_path)!r})\n"
        "print(len(doctor.judge(found)), found['data']['error'])"
    )
    done = command("-c", code)
    assert int(done.stdout.split()[0]) > 5, done.stderr


def test_no_secret_is_a_fact(monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", "secret")
    monkeypatch.setenv("PS_TOKEN", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(gathering, "_try_mxnet", lambda *arguments: {"error": None})
    facts = gathering.gather()
    assert "secret" not in json.dumps(facts)
    assert facts["environment"]["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    "changes, level, subject, words, mend",
    [
        ({"python/version": "3.13.1"}, PROBLEM, "Python", "3.13.1", "3.8 to 3.12"),
        ({"python/version": "3.7.9"}, PROBLEM, "Python", "3.7.9", "3.8 to 3.12"),
        ({"python/implementation": "PyPy"}, PROBLEM, "Python", "PyPy", "CPython"),
        ({"system/machine": "aarch64"}, PROBLEM, "Python", "aarch64", "x86_64"),
        ({"unmet": None}, WARNING, "packages", "not installed", "pip install -e"),
        ({"unmet": ["numpy<1.24"]}, PROBLEM, "packages", "numpy<1.24", "'numpy<1.24'"),
        ({"packages": TWO_OPENCVS}, WARNING, "OpenCV", "overwrite", "opencv-python-headless<4.9"),
        ({"wheels": {"mxnet": "1.8.0"}}, WARNING, "MXNet", "1.8.0", "mxnet==1.9.1"),
        ({"wheels": {}, "mxnet": {"error": ABSENT}}, PROBLEM, "MXNet", "not installed", "1.9.1"),
        ({"wheels": {}, "mxnet": {"error": "x"}}, PROBLEM, "MXNet", "imported: x", "mxnet==1.9.1"),
        ({"mxnet": {}}, PROBLEM, "MXNet", "no answer", "--force-reinstall"),
        ({"mxnet/error": "no answer within 3 s"}, PROBLEM, "MXNet", "within 3 s", "reinstall"),
        ({"data/error": "no module tqdm", "data/sets": []}, PROBLEM, "data", "tqdm", "packages"),
        (
            {"wheels": {"mxnet": "1.9.1", "mxnet-cu112": "1.9.1"}, "mxnet": {"error": "both"}},
            *(PROBLEM, "MXNet", "overwrite", "pip uninstall -y mxnet mxnet-cu112"),
        ),
        ({"mxnet": BROKEN}, PROBLEM, "MXNet", "libquadmath.so.0", "apt-get install libquadmath0"),
        (
            {"mxnet": {"version": "1", "error": "it was ended by SIGILL"}},
            PROBLEM,
            "MXNet",
            "SIGILL",
            "",
        ),
        ({"mxnet/cpu": "out of memory"}, PROBLEM, "MXNet", "out of memory", "--force-reinstall"),
        ({"mxnet/features": ["OPENCV"]}, WARNING, "MXNet", "oneDNN", "mxnet==1.9.1"),
        ({"processor/instructions": ["sse4_1"]}, WARNING, "processor", "AVX2", "another machine"),
        ({"environment": {"OMP_NUM_THREADS": "4"}}, WARNING, "threads", "=4;", "unset OMP"),
        ({"environment": {"OMP_NUM_THREADS": "9"}}, WARNING, "threads", "core (8)", "unset OMP"),
        (
            {"environment": {"OMP_NUM_THREADS": "many"}},
            WARNING,
            "threads",
            "one thread per",
            "unset",
        ),
        ({"environment": {"OMP_NUM_THREADS": "0"}}, WARNING, "threads", "one thread", "unset"),
        (
            {"environment": {"MXNET_ENGINE_TYPE": "NaiveEngine"}},
            *(WARNING, "variables", "NaiveEngine", "unset MXNET_ENGINE_TYPE"),
        ),
        ({"memory/available": GB // 2}, WARNING, "memory", "0.5 GB", "end other programs"),
        ({"disk/free": GB}, WARNING, "disk", "1.1 GB", "--run-dir"),
        ({"data/sets": [DAMAGED]}, PROBLEM, "data", "train.rec", "prepare the data set again"),
        (
            {"cuda/driver": {"cuda": "12.4", "gpus": [A100]}},
            *(WARNING, "GPUs", "uses CPUs only", "make install EXTRA=cu112"),
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_mends_it(changes, level, subject, words, mend):
    (finding,) = others(machine(changes))
    assert (finding.level, finding.subject) == (level, subject)
    assert words in finding.text and mend in finding.remedy
    assert finding.remedy and "\n" not in finding.text + finding.remedy


def test_an_empty_number_of_threads_is_none():
    assert others(machine({"environment": {"OMP_NUM_THREADS": ""}})) == []


def test_what_mxnet_cannot_read_is_no_reason_to_reinstall_it(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    (finding,) = others(machine({"mxnet": gathering._try_mxnet(60)}))
    assert "OMP_NUM_THREADS=many" in finding.text and "unset" in finding.remedy


@pytest.mark.parametrize(
    "changes, level, subject, words, mend",
    [
        (
            {"cuda/libraries/libcudnn.so.8": None},
            *(PROBLEM, "CUDA", "libcudnn.so.8", "dmr-gluon[cu112]"),
        ),
        ({"cuda/driver": None}, PROBLEM, "GPUs", "libcuda.so.1", "NVIDIA's driver"),
        ({"cuda/driver/cuda": "10.2"}, PROBLEM, "GPUs", "CUDA 10.2", "450.80"),
        ({"cuda/driver/gpus": []}, PROBLEM, "GPUs", "no GPU", "nvidia-smi"),
        (
            {"cuda/driver/gpus": [], "environment": {"CUDA_VISIBLE_DEVICES": ""}},
            *(PROBLEM, "GPUs", "no GPU", "unset CUDA_VISIBLE_DEVICES"),
        ),
        ({"cuda/driver/gpus": [A100, H100]}, PROBLEM, "GPUs", "capability 9.0", "--gpus"),
        ({"mxnet/gpus": {"0": "no kernel image"}}, PROBLEM, "GPUs", "no kernel image", "free"),
        ({"mxnet/gpus": {}}, PROBLEM, "GPUs", "not tried", "nvidia-smi"),
    ],
)
def test_what_is_wrong_with_gpus(changes, level, subject, words, mend):
    (finding,) = others(machine(changes, gpu=True))
    assert (finding.level, finding.subject) == (level, subject)
    assert words in finding.text and mend in finding.remedy


def test_a_new_gpu_without_the_wheel_for_gpus_is_no_reason_to_install_it():
    facts = machine({"cuda/driver": {"cuda": "12.4", "gpus": [H100]}})
    assert others(facts) == []
    assert any("H100" in finding.text for finding in judge(facts))


def test_a_role_that_lets_the_import_of_mxnet_never_return_is_not_tried(monkeypatch):
    monkeypatch.setenv("DMLC_ROLE", "server")
    tried = gathering._try_mxnet(5)
    (finding,) = others(machine({"mxnet": tried, "environment": {"DMLC_ROLE": "server"}}))
    assert finding.level == PROBLEM and finding.remedy == "unset DMLC_ROLE"


class TestTrying:
    """The process that imports MXNet, with packages that stand in for it."""

    @pytest.fixture
    def tried(self, tmp_path, monkeypatch):
        def run(code, patience=60):
            (tmp_path / "mxnet").mkdir()
            (tmp_path / "mxnet" / "__init__.py").write_text(code)
            # Before what is installed, so the probe takes it for MXNet.
            monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{REPOSITORY}")
            return gathering._try_mxnet(patience)

        return run

    def test_one_that_crashes(self, tried):
        assert tried("import os; os.abort()")["error"] == "it was ended by SIGABRT"

    def test_one_that_hangs(self, tried):
        assert tried("import time; time.sleep(60)", 3)["error"] == "no answer within 3 s"

    def test_one_that_hangs_after_its_import(self, tried):
        code = (
            "import time\n"
            "__version__ = '1'\n"
            "class Features(dict):\n    is_enabled = None\n"
            "class runtime:\n    Features = Features\n"
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


def test_the_last_answer_counts_whatever_else_is_printed():
    output = b'[12:00] noise\n{"version": "1"}\n\xff\xfe\n{"version": "2"}\n{broken\n"text"\n'
    assert gathering._last_answer(output) == {"version": "2"}
    assert gathering._last_answer(None) == gathering._last_answer(b"x") == {}


class TestCommand:
    def doctor(self, command, *arguments, **options):
        return command("-m", "dmr_gluon.cli.main", "doctor", *arguments, **options)

    def test_this_machine_trains(self, command, digits, tmp_path):
        root = os.path.dirname(digits)
        done = self.doctor(command, "--json", "--data-root", root)
        facts = json.loads(done.stdout)
        assert facts["mxnet"]["version"] == "1.9.1" and facts["mxnet"]["cpu"] == "ok"
        assert facts["processor"]["cores"] >= 1 and facts["memory"]["total"] > GB
        assert [one["name"] for one in facts["data"]["sets"]] == ["digits"]
        levels = [finding["level"] for finding in facts["findings"]]
        assert done.returncode == (1 if PROBLEM in levels else 0) and done.stderr == ""
        mxnet = [f for f in facts["findings"] if f["subject"] == "MXNet"]
        assert mxnet[0]["level"] == OK

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
        assert done.stdout.splitlines()[-1].startswith("2 problems, ")
