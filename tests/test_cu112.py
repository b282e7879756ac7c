"""The wheel for GPUs beside a stand-in for NVIDIA's driver: what can be tried without a GPU.

Installs the extra cu112 as users do: several GB of downloads, about 8 GB on the disk.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

#: Bytes that the environment and the files it is made of take.
_ROOM = 12 << 30
#: What the stand-in answers: CUDA 11.4 is supported, and there is no device.
_VERSION, _NO_DEVICE = 11040, 100


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory):
    """An environment with the extra cu112; its Python, and the variables to run it with."""
    if shutil.which("gcc") is None or shutil.which("nm") is None:
        pytest.skip("gcc and nm make the stand-in for the driver")
    folder = tmp_path_factory.mktemp("cu112")
    if shutil.disk_usage(folder).free < _ROOM:
        pytest.skip(f"less than {_ROOM >> 30} GB are free in {folder}")
    (wheel,) = built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", f"{wheel}[cu112,digits]"], check=True
    )
    code = "import importlib.util as u; print(u.find_spec('mxnet').submodule_search_locations[0])"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    make_driver(found.stdout.strip(), folder / "driver")
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS")
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    return python, variables, folder / "driver"


def make_driver(mxnet, folder):
    """A libcuda.so.1 with every function that MXNet's library wants of it."""
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", os.path.join(mxnet, "libmxnet.so")],
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = set(re.findall(r"\b(cu[A-Z]\w*)", listed.stdout))
    wanted |= {"cuInit", "cuDeviceGetCount", "cuDeviceGetAttribute", "cuDeviceGetName"}
    wanted |= {"cuDeviceTotalMem_v2", "cuGetProcAddress"}
    wanted -= {"cuDriverGetVersion"}
    lines = [f"int {name}(void) {{ return {_NO_DEVICE}; }}" for name in sorted(wanted)]
    lines.append(f"int cuDriverGetVersion(int *v) {{ *v = {_VERSION}; return 0; }}")
    folder.mkdir()
    (folder / "driver.c").write_text("\n".join(lines))
    command = ["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", "libcuda.so.1"]
    subprocess.run([*command, "driver.c"], cwd=folder, check=True)


def run(environment, *arguments, driver=True):
    python, variables, folder = environment
    if driver:
        variables = {**variables, "LD_LIBRARY_PATH": str(folder)}
    return subprocess.run(
        [python, *arguments], env=variables, cwd=folder, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_wheel_for_gpus_imports(environment):
    """With nothing of CUDA but PyPI's libraries, and nothing of the driver but its library."""
    code = (
        "from dmr_gluon.runtime import mx; import dmr_gluon; "
        "print(mx.runtime.Features().is_enabled('CUDA'), mx.context.num_gpus()); "
        "net = dmr_gluon.get_model('cifar_dmrnet8', classes=10); net.initialize(); "
        "print(net(mx.nd.zeros((1, 3, 32, 32))).shape)"
    )
    done = run(environment, "-c", code)
    assert done.stdout.splitlines() == ["True 0", "(1, 10)"], done.stderr


@pytest.mark.slow
def test_cudnn_finds_the_compiler_by_the_name_that_it_asks_for(environment):
    """And the compiler its built-in functions; what it writes needs a driver for CUDA 11.8."""
    code = """
import ctypes, os
import dmr_gluon.runtime
nvrtc, program, size = ctypes.CDLL("libnvrtc.so"), ctypes.c_void_p(), ctypes.c_size_t()
source = b'extern "C" __global__ void f(float *x) { x[threadIdx.x] = tanhf(x[threadIdx.x]); }'
options = (ctypes.c_char_p * 1)(b"--gpu-architecture=compute_80")
assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"f.cu", 0, None, None) == 0
assert nvrtc.nvrtcCompileProgram(program, 1, options) == 0
nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
ptx = ctypes.create_string_buffer(size.value)
nvrtc.nvrtcGetPTX(program, ptx)
print([line for line in ptx.value.decode().splitlines() if line.startswith(".version")])
print("fusion", os.environ.get("MXNET_USE_FUSION"))
"""
    done = run(environment, "-c", code)
    assert done.stdout.splitlines() == ["['.version 7.8']", "fusion 0"], done.stderr


@pytest.mark.slow
def test_the_doctor_says_what_is_there_and_what_is_not(environment):
    facts = json.loads(run(environment, "-m", "dmr_gluon.cli.main", "doctor", "--json").stdout)
    assert facts["packages"]["mxnet-cu112"] == "1.9.1" and facts["driver"] == "11.4"
    findings = {finding["subject"]: finding for finding in facts["findings"]}
    assert findings["MXNet"]["level"] == "ok"
    wrong = [f for f in facts["findings"] if f["level"] == "problem"]
    assert [f["subject"] for f in wrong] == ["GPUs"] and "no GPU" in wrong[0]["text"]


@pytest.mark.slow
def test_without_a_driver_it_is_said_in_one_line(environment):
    done = run(environment, "-c", "import dmr_gluon.runtime", driver=False)
    assert "libcuda.so.1" in done.stderr and "install NVIDIA's driver" in done.stderr


@pytest.mark.slow
def test_training_asks_for_gpus_that_are_there(environment):
    assert (
        run(
            environment, "-m", "dmr_gluon.cli.main", "prepare", "digits", "--out", "digits"
        ).returncode
        == 0
    )
    script = str(REPOSITORY / "train_cifar.py")
    done = run(environment, script, "--data-dir", "digits", "--gpus", "0-7")
    assert done.returncode == 2 and "MXNet finds none" in done.stderr, done
