"""Queries to NVIDIA's driver, with a replacement for it, and the loading of CUDA libraries."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from dmr_gluon.system import cuda
from dmr_gluon.system.cuda import GPU, find_gpus, newest_cuda

V100, H100, RTX4090 = ("V100", (7, 0)), ("H100", (9, 0)), ("4090", (8, 9))


class StandIn:
    """A driver's library, as ctypes gives it."""

    def __init__(self, gpus=(), version=11040, fails=()):
        self.gpus, self.version, self.fails = gpus, version, fails

    def _set(self, what, target, value):
        if what in self.fails:
            return 100
        target.value = value
        return 0

    def cuDriverGetVersion(self, value):
        return self._set("version", value._obj, self.version)

    def cuInit(self, flags):
        assert flags == 0
        return 100 if "init" in self.fails else 0

    def cuDeviceGetCount(self, value):
        return self._set("count", value._obj, len(self.gpus))

    def cuDeviceGetAttribute(self, value, attribute, number):
        capability = self.gpus[number][1][{75: 0, 76: 1}[attribute]]
        return self._set("capability", value._obj, capability)

    def cuDeviceGetName(self, name, size, number):
        return self._set("name", name, self.gpus[number][0].encode()[:size])


def ask(monkeypatch, **arguments):
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: StandIn(**arguments))
    return newest_cuda(), find_gpus()


def test_what_a_driver_says(monkeypatch):
    version, gpus = ask(monkeypatch, gpus=[V100, H100, RTX4090], version=12040)
    assert version == (12, 4)
    assert gpus == [GPU(i, *gpu) for i, gpu in enumerate((V100, H100, RTX4090))]
    assert [gpu.runs for gpu in gpus] == [True, False, True]


@pytest.mark.parametrize("capability, runs", [((3, 7), False), ((5, 0), True), ((0, 0), False)])
def test_what_the_wheel_has_code_for(capability, runs):
    assert GPU(0, "x", capability).runs == runs


@pytest.mark.parametrize("fails", ["init", "count"])
def test_a_driver_that_finds_no_gpu(monkeypatch, fails):
    assert ask(monkeypatch, gpus=[V100], fails=[fails]) == ((11, 4), [])


def test_what_a_driver_does_not_say(monkeypatch):
    found = ask(monkeypatch, gpus=[V100], fails=["version", "capability", "name"])
    assert found == (None, [GPU(0, "unknown", (0, 0))])


def test_without_a_driver(monkeypatch):
    monkeypatch.setattr(cuda, "_DRIVER", "libno-such-driver.so")
    assert (newest_cuda(), find_gpus()) == (None, [])


def test_cuda_libraries_are_loaded_from_pypis_packages(tmp_path, monkeypatch):
    for name in ("cudnn/lib/libcudnn.so.8", "cuda_nvrtc/lib/libnvrtc.so.11.2"):
        path = tmp_path / "nvidia" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")

    def load(path, mode=None):
        if not os.path.isabs(path):
            raise OSError
        return path

    monkeypatch.setattr(cuda.ctypes, "CDLL", load)
    monkeypatch.setattr(cuda.sys, "path", [str(tmp_path)])
    renamed = []
    monkeypatch.setattr(cuda, "rename_library", lambda *names: renamed.append(names))
    missing = cuda.preload_libraries()
    assert renamed == [(str(path), "libnvrtc.so")]  # as cuDNN calls it
    assert "libcudnn.so.8" not in missing and "libnccl.so.2" in missing


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc makes the library")
def test_a_library_is_found_under_another_name(tmp_path):
    """In a process of its own, as nothing that was loaded goes again."""
    (tmp_path / "one.c").write_text("int answer(void) { return 42; }")
    command = ["gcc", "-shared", "-fPIC", "-Wl,-soname,libone.so.11.2", "-o", "libone.so.11.2"]
    subprocess.run([*command, "one.c"], cwd=tmp_path, check=True)
    code = (
        "import ctypes, sys; from dmr_gluon.system.cuda import rename_library\n"
        "library = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)\n"
        "try: ctypes.CDLL('libone.so')\n"
        "except OSError: rename_library(library, 'libone.so')\n"
        "for name in 'libone.so', 'libone.so.11.2', sys.argv[1]:\n"
        "    print(ctypes.CDLL(name).answer(), ctypes.CDLL(name)._handle == library._handle)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "libone.so.11.2"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.stdout == 3 * "42 True\n", done.stderr
