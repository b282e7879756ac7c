"""Queries to NVIDIA's driver, with a replacement for it, and the loading of CUDA libraries."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from dmr_gluon.system import cuda
from dmr_gluon.system.cuda import GPU, Driver, driver

V100, H100, RTX4090 = ("V100", (7, 0), 16 << 30), ("H100", (9, 0), 80 << 30), ("4090", (8, 9), 1)


class StandIn:
    """A driver's library, as ctypes gives it."""

    def __init__(self, gpus=(), version=11040, fails=()):
        self.gpus, self.version, self.fails = gpus, version, fails

    def _fails(self, what):
        return 100 if what in self.fails else 0

    def cuDriverGetVersion(self, value):
        value._obj.value = self.version
        return self._fails("version")

    def cuInit(self, flags):
        assert flags == 0
        return self._fails("init")

    def cuDeviceGetCount(self, value):
        value._obj.value = len(self.gpus)
        return self._fails("count")

    def cuDeviceGetAttribute(self, value, attribute, number):
        value._obj.value = self.gpus[number][1][{75: 0, 76: 1}[attribute]]
        return self._fails("capability")

    def cuDeviceGetName(self, name, size, number):
        name.value = self.gpus[number][0].encode()[:size]
        return self._fails("name")

    def cuDeviceTotalMem_v2(self, value, number):
        value._obj.value = self.gpus[number][2]
        return self._fails("memory")


def ask(monkeypatch, **arguments):
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: StandIn(**arguments))
    return driver()


def test_what_a_driver_says(monkeypatch):
    found = ask(monkeypatch, gpus=[V100, H100, RTX4090], version=12040)
    assert found == Driver(
        (12, 4),
        tuple(GPU(i, *gpu) for i, gpu in enumerate((V100, H100, RTX4090))),
    )
    assert [gpu.runs for gpu in found.gpus] == [True, False, True]


@pytest.mark.parametrize("capability, runs", [((3, 7), False), ((5, 0), True), ((0, 0), False)])
def test_what_the_wheel_has_code_for(capability, runs):
    assert GPU(0, "x", capability).runs == runs


@pytest.mark.parametrize("fails", ["init", "count"])
def test_a_driver_that_finds_no_gpu_says_why(monkeypatch, fails):
    assert ask(monkeypatch, gpus=[V100], fails=[fails]) == Driver((11, 4), (), "CUDA error 100")


def test_what_a_driver_does_not_say(monkeypatch):
    found = ask(monkeypatch, gpus=[V100], fails=["version", "capability", "name", "memory"])
    assert found == Driver(None, (GPU(0, "unknown", (0, 0), None),))


def test_without_a_driver():
    assert driver("libno-such-driver.so") is None


def test_cuda_libraries_are_loaded_from_pypis_packages(tmp_path, monkeypatch):
    folder = tmp_path / "nvidia" / "cudnn" / "lib"
    folder.mkdir(parents=True)
    (folder / "libcudnn.so.8").write_bytes(b"")
    loaded = []

    def load(path, mode=None):
        loaded.append(path)
        if not os.path.isabs(path):
            raise OSError

    monkeypatch.setattr(cuda.ctypes, "CDLL", load)
    monkeypatch.setattr(cuda.sys, "path", [str(tmp_path)])
    named = []
    monkeypatch.setattr(cuda, "name_library", lambda *names: named.append(names))
    missing = cuda.preload_libraries()
    assert str(folder / "libcudnn.so.8") in loaded
    assert named == [("libnvrtc.so", "libnvrtc.so.11.2")]  # as cuDNN calls it
    assert "nvidia-cudnn-cu11" not in missing and "nvidia-nccl-cu11" in missing


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc makes the library")
def test_a_library_is_found_under_another_name(tmp_path):
    """In a process of its own, as nothing that was loaded goes again."""
    (tmp_path / "one.c").write_text("int answer(void) { return 42; }")
    command = ["gcc", "-shared", "-fPIC", "-Wl,-soname,libone.so.11.2", "-o", "libone.so.11.2"]
    subprocess.run([*command, "one.c"], cwd=tmp_path, check=True)
    code = (
        "import ctypes, sys; from dmr_gluon.system.cuda import name_library\n"
        "ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)\n"
        "try: ctypes.CDLL('libone.so')\n"
        "except OSError: name_library('libone.so', 'libone.so.11.2')\n"
        "print(ctypes.CDLL('libone.so').answer())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "libone.so.11.2"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.stdout == "42\n", done.stderr
