"""What happens before `import mxnet`."""

import importlib.util
import os
import sys
from types import ModuleType

import pytest

from dmr_gluon.errors import DMRError
from dmr_gluon.system import machine
from dmr_gluon.system.lazy_imports import deferred_imports
from dmr_gluon.system.machine import check_threads


def test_all_usable_cores_are_used_unless_the_user_says_otherwise(command, monkeypatch):
    from dmr_gluon import runtime

    show = "import dmr_gluon.runtime as r; print(os.environ['OMP_NUM_THREADS'], r.usable_cores())"
    done = command("-c", f"import os; os.environ.pop('OMP_NUM_THREADS', 0); {show}")
    threads, cores = done.stdout.split()
    assert threads == cores and 1 <= int(cores) <= os.cpu_count()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    runtime._set_environment()
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_fewer_cores_by_affinity(monkeypatch):
    one = {min(os.sched_getaffinity(0))}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: one)
    assert machine.usable_cores() == 1


@pytest.mark.parametrize(
    "contexts, before, after",
    [
        ("2", {}, ("3", "32")),
        ("4", {}, ("1", "64")),
        ("9", {}, ("1", "144")),
        ("1", {}, (None, None)),
        ("2", {"OMP_NUM_THREADS": "5"}, ("5", "32")),
        ("2", {"MXNET_CPU_TEMP_COPY": "7"}, ("3", "7")),
    ],
)
def test_cpu_contexts_share_the_cores(digits, monkeypatch, contexts, before, after):
    """Before MXNet is imported, which reads both; the user's own values stay."""
    from dmr_gluon.cli.training_flags import parse_training_flags
    from dmr_gluon.paper.recipes import CIFAR

    names = ("OMP_NUM_THREADS", "MXNET_CPU_TEMP_COPY")
    for name in names:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "usable_cores", lambda: 6)
    flags = ["--data-dir", digits, "--cpus", contexts]
    parse_training_flags("", CIFAR, "digits", arguments=flags)
    assert tuple(os.environ.get(name) for name in names) == after


@pytest.mark.parametrize(
    "name, value, left",
    [
        ("OMP_NUM_THREADS", "4", "4"),
        ("OMP_NUM_THREADS", "", None),
        ("MXNET_CPU_WORKER_NTHREADS", "", None),
        ("MXNET_MP_OPENCV_NUM_THREADS", "0", "0"),
    ],
)
def test_a_number_of_threads_is_made_readable(monkeypatch, name, value, left):
    monkeypatch.setenv(name, value)
    check_threads()
    assert os.environ.get(name) == left


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MXNET_CPU_WORKER_NTHREADS"])
@pytest.mark.parametrize("value", ["many", "0", "-1", "4.0", "99999999999", "4,2"])
def test_what_is_no_number_of_threads_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(DMRError, match=f"^{name}={value} is not .* unset {name}$"):
        check_threads()


def test_mxnet_does_not_abort_on_a_number_of_threads(command):
    code = (
        "from dmr_gluon.errors import DMRError\n"
        "try: import dmr_gluon.runtime\n"
        "except DMRError as error: print('refused:', error)"
    )
    done = command("-c", code, OMP_NUM_THREADS="many")
    assert done.returncode == 0 and done.stdout.startswith("refused: OMP_NUM_THREADS=many"), done


def run_with_stand_in(command, tmp_path, before):
    """Import the runtime with a part of the machine replaced."""
    code = (
        "import importlib.util, importlib.metadata, sys\n"
        f"{before}\n"
        "from dmr_gluon.errors import DMRError\n"
        "try:\n    import dmr_gluon.runtime\n"
        "except DMRError as error:\n    print('refused:', error)\n"
    )
    return command("-c", code, cwd=tmp_path)


@pytest.mark.parametrize(
    "before, words",
    [
        (
            "find = importlib.util.find_spec\n"
            "importlib.util.find_spec = lambda name: None if name == 'mxnet' else find(name)",
            "pip install 'mxnet==1.9.1'",
        ),
        ("importlib.metadata.version = lambda name: '1.9.1'", "pip uninstall -y mxnet"),
        ("import numpy; numpy.__version__ = '2.1.0'", "pip install 'numpy<2'"),
    ],
    ids=["no mxnet", "both wheels", "numpy 2"],
)
def test_what_is_wrong_with_the_installation_is_one_line(command, tmp_path, before, words):
    done = run_with_stand_in(command, tmp_path, before)
    assert done.stdout.startswith("refused: ") and words in done.stdout, done
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "message, words",
    [
        ("libcuda.so.1: cannot open shared object file", "NVIDIA's driver"),
        ("libquadmath.so.0: cannot open shared object file", "libquadmath0"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_cure(command, tmp_path, message, words):
    package = tmp_path / "mxnet"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise OSError({message!r})")
    done = run_with_stand_in(command, tmp_path, f"sys.path.insert(0, {str(tmp_path)!r})")
    assert "refused: " in done.stdout and words in done.stdout, done


def test_mxnet_imported_before_is_told_of(command):
    code = (
        "import os; os.environ.pop('OMP_NUM_THREADS', 0)\n"
        "import numpy\n"
        "for n, v in dict(bool=bool, int=int, float=float, object=object, str=str).items():\n"
        "    n in vars(numpy) or setattr(numpy, n, v)\n"
        "import mxnet, dmr_gluon.runtime\n"
    )
    assert "half of the cores" in command("-W", "always", "-c", code).stderr


def test_mxnet_imports_only_what_it_needs(command):
    """Other packages are imported on first use, by MXNet and by the user."""
    code = (
        "import sys, dmr_gluon.runtime as r\n"
        "seldom = 'sklearn', 'scipy.stats', 'requests', 'onnx', 'distutils'\n"
        "print([name for name in seldom if name in sys.modules])\n"
        "print(r.mx.test_utils.ss.norm.cdf(0), r.mx.gluon.utils.requests.get.__name__)\n"
        "import scipy.stats, requests\n"
        "print(r.mx.test_utils.ss.norm is scipy.stats.norm, requests.get.__name__)\n"
        "print(r.mx.nd.sparse.csr_matrix(([1.0], [0], [0, 1]), shape=(1, 1)).asscipy().sum())\n"
    )
    lines = ["[]", "0.5 get", "True get", "1.0"]
    assert command("-c", code).stdout.splitlines() == lines


def test_a_thread_that_needs_a_deferred_package_gets_the_real_one(command):
    code = (
        "import inspect, sys\n"
        "from dmr_gluon.system.lazy_imports import deferred_imports\n"
        "with deferred_imports():\n"
        "    import requests.adapters\n"
        "    from scipy import stats\n"
        "    print(stats.norm.cdf(0), hasattr(sys.modules['requests'], '__file__'))\n"
        "    inspect.stack()\n"
        "    sys.modules.pop('sklearn')\n"
        "print(requests.get.__name__)"
    )
    assert command("-c", code).stdout.split() == ["0.5", "True", "get"]


NAMES = ("sklearn", "scipy.stats", "requests", "onnx", "distutils", "distutils.version")


def test_packages_that_are_imported_before_stay(monkeypatch):
    modules = {name: ModuleType(name) for name in NAMES}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    with deferred_imports():
        assert {name: sys.modules[name] for name in NAMES} == modules
    assert {name: sys.modules[name] for name in NAMES} == modules


OPERATORS = """
import inspect, pickle, sys
from dmr_gluon.system.lazy_imports import postpone_operators
if sys.argv[1] == "later":
    postpone_operators()
    postpone_operators()  # a second program in the same process
from dmr_gluon.runtime import mx
print(len(inspect.signature(mx.nd.Convolution).parameters), end=" ")
x = mx.nd.arange(32).reshape((1, 2, 4, 4))
print(mx.nd.Convolution(x, mx.nd.ones((1, 2, 3, 3)), kernel=(3, 3), num_filter=1, no_bias=True))
print(mx.nd.op.Convolution.__name__, len(inspect.signature(mx.nd.Convolution).parameters))
print(mx.nd.Convolution.__doc__, mx.sym.exp(mx.sym.var("a"), name="b").tojson())
print(mx.np.sum(mx.np.ones(3)), mx.nd.contrib.quadratic(x, a=1).sum(), mx.nd.uniform(shape=2))
try:
    mx.nd.Convolution(x, kernel=(3, 3), wrong=1)
except mx.base.MXNetError as error:
    print(str(error).splitlines()[-1])
try:
    mx.nd.tanh(*range(99))
except TypeError as error:
    print(error, repr(mx.nd.sin)[:20], pickle.dumps(mx.nd.contrib.index_copy))
print(mx.nd.Convolution.__code__.co_name)
"""


def test_operators_that_are_made_later_are_the_same(command):
    now, later = (command("-c", OPERATORS, when) for when in ("now", "later"))
    assert (now.returncode, later.returncode) == (0, 0), later.stderr
    (known, now), (unknown, later) = (done.stdout.split(" ", 1) for done in (now, later))
    assert now == later and int(known) > int(unknown)


def test_a_package_that_is_not_installed_is_not_deferred(monkeypatch):
    """MXNet looks for onnx, and does without it."""
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name)
    )
    with deferred_imports():
        assert "onnx" not in sys.modules and "requests" in sys.modules
    assert "requests" not in sys.modules


#: /proc/self/cgroup, the controllers' files; the number of cores that follows.
CGROUPS = {
    "systemd's CPUQuota, version 2": (
        "0::/system.slice/training.service",
        {
            "system.slice/training.service/cpu.max": "200000 100000",
            "system.slice/cpu.max": "max 100000",
        },
        2,
    ),
    "Slurm, version 1": (
        "4:memory:/slurm/job_7/step_0\n3:cpu,cpuacct:/slurm/job_7\n1:name=systemd:/elsewhere",
        {
            "cpu/slurm/job_7/cpu.cfs_quota_us": "-1",
            "cpu/slurm/job_7/cpu.cfs_period_us": "100000",
            "cpu/slurm/cpu.cfs_quota_us": "350000",
            "cpu/slurm/cpu.cfs_period_us": "100000",
        },
        3,
    ),
    "a hybrid, in a container that sees the host's paths": (
        "5:memory:/docker/abc\n3:cpu:/docker/abc\n0::/docker/abc",
        {
            "cpu/cpu.cfs_quota_us": "400000",
            "cpu/cpu.cfs_period_us": "100000",
        },
        4,
    ),
}


@pytest.mark.parametrize("own, files, found", CGROUPS.values(), ids=CGROUPS)
def test_the_limits_of_all_cgroups_above_are_seen(own, files, found, tmp_path, monkeypatch):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(own)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr(machine, "_PROCESS", str(tmp_path / "self"))
    monkeypatch.setattr(machine, "_CGROUPS", str(tmp_path / "cgroup"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1000, 1008))
    assert machine.usable_cores() == found
