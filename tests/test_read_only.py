"""A read-only root without a temporary folder, as with docker run --read-only."""

import os
import shutil
import subprocess
import sys

import pytest

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

#: Makes what it can of the file systems read-only, then runs a command.
_READ_ONLY = """
cut -d' ' -f2 /proc/self/mounts | grep -vE '^/(proc|sys|dev)(/|$)' | while read folder
do mount -o remount,bind,ro "$(printf %b "$folder")"
done 2> /dev/null
exec "$@"
"""


@pytest.fixture
def run(tmp_path):
    """Run a Python program there."""
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare")

    def read_only(*command):
        return subprocess.run(
            ["unshare", "-rm", "sh", "-c", _READ_ONLY, "sh", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": REPOSITORY},
            capture_output=True,
            text=True,
            timeout=200,
        )

    tried = read_only("sh", "-c", "touch here /tmp/here /var/tmp/here; echo tried")
    if tried.stdout != "tried\n" or tried.stderr.count("Read-only") != 3:
        pytest.skip(f"no read-only root can be had: {tried.stderr.strip()}")
    return lambda *arguments: read_only(sys.executable, *arguments)


@pytest.mark.parametrize("form", [pytest.param("plain", marks=pytest.mark.slow), "onnx"])
def test_images_are_predicted(run, bundle, form):
    image = os.path.join(bundle, "example.png")
    done = run("-m", "dmr_gluon.cli.main", "predict", bundle, image, "--form", form, "--json")
    assert done.returncode == 0 and '"top"' in done.stdout, done


def test_the_program_in_a_bundle_predicts(run, bundle):
    program, image = (os.path.join(bundle, name) for name in ("predict_onnx.py", "example.png"))
    done = run(program, image, "--json")
    assert done.returncode == 0 and '"top"' in done.stdout, done


def test_a_run_is_evaluated(run, short_run):
    done = run("-m", "dmr_gluon.cli.main", "eval", short_run)
    assert done.returncode == 0 and "test error" in done.stdout, done
