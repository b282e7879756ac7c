"""What happens before `import mxnet`, each in a process of its own."""

import os

import pytest

from dmr_gluon.errors import DMRError
from dmr_gluon.system import machine
from dmr_gluon.system.machine import check_threads


def test_all_usable_cores_are_used_unless_the_user_says_otherwise(command):
    show = (
        "import os, dmr_gluon.runtime as r; print(os.environ['OMP_NUM_THREADS'], r.usable_cores())"
    )
    threads, cores = command(
        "-c", f"import os; os.environ.pop('OMP_NUM_THREADS', 0); {show}"
    ).stdout.split()
    assert threads == cores and 1 <= int(cores) <= os.cpu_count()
    assert command("-c", show, OMP_NUM_THREADS="3").stdout.split()[0] == "3"


def test_fewer_cores_by_affinity(command):
    show = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "os.environ.pop('OMP_NUM_THREADS', 0)"
    )
    done = command("-c", f"{show}; import dmr_gluon.runtime; print(os.environ['OMP_NUM_THREADS'])")
    assert done.stdout.strip() == "1"


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
    """Before MXNet is imported, which then reads both; what the user has set stays."""
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
        ("OMP_NUM_THREADS", "4,2", "4"),
        ("OMP_NUM_THREADS", " 4 ", "4"),
        ("OMP_NUM_THREADS", " ", None),
        ("MXNET_CPU_WORKER_NTHREADS", "", None),
        ("MXNET_MP_OPENCV_NUM_THREADS", "0", "0"),
    ],
)
def test_a_number_of_threads_is_made_readable(monkeypatch, name, value, left):
    monkeypatch.setenv(name, value)
    check_threads()
    assert os.environ.get(name) == left


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MXNET_CPU_WORKER_NTHREADS"])
@pytest.mark.parametrize("value", ["many", "0", "-1", "4.0", "99999999999", ",4"])
def test_what_is_no_number_of_threads_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(DMRError, match=f"^{name}={value} is not .* unset {name}$"):
        check_threads()


@pytest.mark.parametrize("value, said", [("3,2", "3\n"), ("many", "refused: OMP_NUM_THREADS=many")])
def test_mxnet_does_not_abort_on_a_number_of_threads(command, value, said):
    code = (
        "import os\nfrom dmr_gluon.errors import DMRError\n"
        "try: import dmr_gluon.runtime; print(os.environ['OMP_NUM_THREADS'])\n"
        "except DMRError as error: print('refused:', error)"
    )
    done = command("-c", code, OMP_NUM_THREADS=value)
    assert done.returncode == 0 and done.stdout.startswith(said), done


def run_with_stand_in(command, tmp_path, before):
    """Import the runtime with something standing in for a part of the machine."""
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
    """The rest is there for whoever asks for it, MXNet too."""
    code = (
        "import gc, sys, dmr_gluon.runtime as r\n"
        "seldom = 'sklearn', 'scipy.stats', 'requests', 'onnx', 'distutils'\n"
        "print([name for name in seldom if name in sys.modules], gc.isenabled())\n"
        "print(r.mx.test_utils.ss.norm.cdf(0), r.mx.gluon.utils.requests.get.__name__)\n"
        "import scipy.stats, requests\n"
        "print(r.mx.test_utils.ss.norm is scipy.stats.norm, requests.get.__name__)\n"
        "print(r.mx.nd.sparse.csr_matrix(([1.0], [0], [0, 1]), shape=(1, 1)).asscipy().sum())\n"
    )
    lines = ["[] True", "0.5 get", "True get", "1.0"]
    assert command("-c", code).stdout.splitlines() == lines


def test_who_asks_for_it_meanwhile_gets_the_real_one(command):
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


def test_a_stub_that_someone_put_there_stays(command):
    code = (
        "import sys, types; stub = sys.modules['requests'] = types.ModuleType('requests')\n"
        "import dmr_gluon.runtime; print(sys.modules['requests'] is stub)"
    )
    assert command("-c", code).stdout.split() == ["True"]


@pytest.mark.parametrize("name", ["sklearn", "scipy.stats", "requests", "onnx"])
def test_what_was_imported_before_mxnet_stays(command, name):
    pytest.importorskip(name)
    code = (
        f"import gc, sys, {name}; gc.disable(); before = sys.modules[{name!r}]\n"
        f"import dmr_gluon.runtime; print(sys.modules[{name!r}] is before, gc.isenabled())"
    )
    assert command("-c", code).stdout.split() == ["True", "False"]


def test_what_is_not_installed_mxnet_does_not_find(command):
    code = (
        "import importlib.machinery as machinery\n"
        "find = machinery.PathFinder.find_spec\n"
        "machinery.PathFinder.find_spec = lambda name, *more: name != 'onnx' and find(name, *more)"
        " or None\n"
        "import dmr_gluon.runtime\n"
        "from mxnet.onnx.mx2onnx._op_translations import _op_translations_opset12 as translations\n"
        "print(translations.onnx)"
    )
    assert command("-c", code).stdout.split() == ["None"]


#: /proc/self/cgroup, the cgroup mounts of /proc/self/mountinfo (root, mount point, kind, options),
#: the controllers' files; the cores, limit and available memory that follow.
CGROUPS = {
    "systemd's CPUQuota, version 2": (
        "0::/system.slice/training.service",
        [("/", "cgroup", "cgroup2", "rw")],
        {
            "cgroup/system.slice/training.service/cpu.max": "200000 100000",
            "cgroup/system.slice/training.service/memory.max": "max",
            "cgroup/system.slice/training.service/memory.high": "3000000",
            "cgroup/system.slice/training.service/memory.current": "500000",
            "cgroup/system.slice/cpu.max": "max 100000",
            "cgroup/system.slice/memory.max": "4000000",
            "cgroup/system.slice/memory.current": "3900000",
            "cgroup/system.slice/memory.stat": "active_file 7\ninactive_file 100000",
        },
        (2, 3_000_000, 200_000),
    ),
    "Slurm's memory, version 1": (
        "4:memory:/slurm/job_7/step_0\n3:cpu,cpuacct:/slurm/job_7\n1:name=systemd:/elsewhere",
        [
            ("/", "cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
            ("/", "cgroup/memory", "cgroup", "rw,memory"),
        ],
        {
            "cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": "-1",
            "cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_period_us": "100000",
            "cgroup/cpu,cpuacct/slurm/cpu.cfs_quota_us": "350000",
            "cgroup/cpu,cpuacct/slurm/cpu.cfs_period_us": "100000",
            "cgroup/memory/slurm/job_7/step_0/memory.limit_in_bytes": "9223372036854771712",
            "cgroup/memory/slurm/job_7/memory.limit_in_bytes": "2000000",
            "cgroup/memory/slurm/job_7/memory.usage_in_bytes": "1500000",
            "cgroup/memory/slurm/job_7/memory.stat": "inactive_file 1\ntotal_inactive_file 90000",
        },
        (3, 2_000_000, 590_000),
    ),
    "a hybrid, in a container that sees the host's paths": (
        "5:memory:/docker/abc/worker\n3:cpu:/docker/abc/worker\n0::/docker/abc/worker",
        [
            ("/docker/abc", "cgroup/memory", "cgroup", "rw,memory"),
            ("/docker/abc", "cgroup/cpu", "cgroup", "rw,cpu"),
            ("/", "cgroup/unified", "cgroup2", "rw"),
        ],
        {
            "cgroup/cpu/worker/cpu.cfs_quota_us": "50000",
            "cgroup/cpu/worker/cpu.cfs_period_us": "100000",
            "cgroup/cpu/cpu.cfs_quota_us": "400000",
            "cgroup/cpu/cpu.cfs_period_us": "100000",
            "cgroup/memory/memory.limit_in_bytes": "1000000",
        },
        (1, 1_000_000, None),
    ),
}


@pytest.mark.parametrize("own, mounts, files, found", CGROUPS.values(), ids=CGROUPS)
def test_the_limits_of_all_cgroups_above_are_seen(own, mounts, files, found, tmp_path, monkeypatch):
    process = tmp_path / "self"
    process.mkdir()
    (process / "cgroup").write_text(own)
    (process / "mountinfo").write_text(
        "21 1 8:1 / /a\udcff rw - ext4 /dev/sda1 rw\n"
        + "".join(
            f"31 23 0:28 {root} {tmp_path}/{mount} rw,relatime shared:4 - {kind} cgroup {options}\n"
            for root, mount, kind, options in mounts
        ),
        errors="surrogateescape",
    )
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr(machine, "_PROCESS", str(process), raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1000, 1008))
    cores, limit, available = found
    assert machine.usable_cores() == cores
    memory = machine.memory()
    assert memory["limit"] == limit
    assert memory["available"] == available or available is None
