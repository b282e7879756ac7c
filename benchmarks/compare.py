"""This project beside its peers, in one run: make bench, or

    python benchmarks/compare.py --peer-python PYTHON --out-dir DIR

The peers: the way of the paper's authors on this MXNet; PyTorch eager, compiled and traced, in
float32 and bfloat16; ONNX Runtime on what MXNet exports. All get the same weights and images,
must agree with our network before they are timed, and take turns in processes of their own.
It measures training, inference, the time to the first step, and memory in training.
docs/performance.md says what is compared and what is not.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from agreement import Checks
from comparison_report import markdown
from conditions import machine, measured_peak, random_bundle, training_multiply_adds
from contestants import FORMS, OUR_FORMS, PRECISIONS, Case, inference, training
from taking_turns import second_starts, take_turns
from tqdm import tqdm

from dmr_gluon.analysis.symbol_parity import randomise
from dmr_gluon.cli.program import Parser, run
from dmr_gluon.deploy.bundle import read_bundle
from dmr_gluon.deploy.bundle_writer import ExportOptions
from dmr_gluon.deploy.onnx_model import require_onnx
from dmr_gluon.errors import DMRError
from dmr_gluon.models.complexity import complexity_of, image_size
from dmr_gluon.models.equivalence import arrays_of
from dmr_gluon.models.names import get_spec
from dmr_gluon.models.network import Network
from dmr_gluon.runtime import mx

NETWORKS = ("cifar_dmrnet14", "cifar_dmrnet56", "cifar_dmrnet32_w4", "dmrnet44")
PARTS = ("training", "inference", "start", "memory")
#: Programs whose whole time is taken, beside the first training steps.
BEGINNINGS = {
    "Python itself": ["-c", "pass"],
    "import dmr_gluon": ["-c", "import dmr_gluon"],
    "dmr --help": ["-m", "dmr_gluon.cli.main", "--help"],
    "import MXNet": ["-c", "from dmr_gluon.runtime import mx"],
    "import torch": ["-c", "import torch"],
}
#: INT8 may lose what it likes: the weights are random.
_EXPORT = ExportOptions(tuple(OUR_FORMS), check_images=16, int8_limit=100)
WORKER = str(Path(__file__).resolve().parent / "pytorch_worker.py")


def main(arguments=None):
    options = _read(arguments)
    require_onnx()
    versions = peer_versions(options.peer_python)
    found = {
        "machine": machine(),
        "peer": versions,
        "peak": vars(measured_peak()),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "networks": [],
    }
    if "start" in options.only:
        found["beginnings"] = beginnings(options.peer_python)
    for name in options.networks:
        found["networks"].append(compare(name, options))
        write(found, options)  # what is measured is kept, whatever comes next
    print(markdown(found))


def compare(name, options):
    """Everything about one network."""
    spec = get_spec(name)
    batch = options.batch or (64 if image_size(spec) == 32 else 16)
    sizes = sorted({1, options.batch or 64})
    complexity = complexity_of(spec)
    result = {
        "network": name,
        "multiply_adds": {
            "training": training_multiply_adds(complexity),
            "inference": complexity.multiply_adds,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        where = (folder, options.peer_python, tuple(options.forms), tuple(options.precisions))
        if set(options.only) - {"inference"}:
            say(f"{name}: training")
            case = Case(name, os.path.join(folder, "train.npz"), *where)
            np.savez(case.weights, **arrays_of(randomise(Network(spec))))
            checks = Checks(case, "train", [batch])
            programs = training(case, batch)
            rounds = options.rounds if "training" in options.only else 0
            part = take_turns(programs, [batch], checks, rounds, options.seconds)
            if "start" in options.only:
                part["second_start"] = second_starts(programs, part["failed"])
            result["training"] = {**part, "agreement": checks.as_json()}
        if "inference" in options.only:
            say(f"{name}: export")
            bundle = random_bundle(name, folder, _EXPORT)
            case = Case(name, os.path.join(folder, "infer.npz"), *where)
            np.savez(case.weights, **plain_weights(bundle))
            say(f"{name}: inference")
            checks = Checks(case, "infer", sizes)
            programs = inference(case, bundle, sizes)
            part = take_turns(programs, sizes, checks, options.rounds, options.seconds)
            result["inference"] = {**part, "agreement": checks.as_json()}
    return result


def plain_weights(bundle):
    """Arrays by our parameters' names."""
    _, params = read_bundle(bundle)["forms"]["plain"]["files"]
    arrays = mx.nd.load(os.path.join(bundle, params))
    return {name.split(":", 1)[1]: array.asnumpy() for name, array in arrays.items()}


def beginnings(peer_python, times=5):
    """Median seconds of programs that only begin."""
    found = {name: [] for name in BEGINNINGS}
    for _ in tqdm(range(times), "beginnings", disable=None, leave=False):
        for name, arguments in BEGINNINGS.items():
            peer = name == "import torch"
            began = time.perf_counter()
            subprocess.run(
                [peer_python if peer else sys.executable, *arguments],
                env={**os.environ, **({"PYTHONPATH": ""} if peer else {})},
                stdout=subprocess.DEVNULL,
                check=True,
            )
            found[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def peer_versions(python):
    """What the peer's interpreter has."""
    try:
        done = subprocess.run(
            [python, WORKER, "versions"],
            env={**os.environ, "PYTHONPATH": ""},
            capture_output=True,
            encoding="utf-8",
        )
    except OSError as error:
        raise DMRError(f"{python} cannot be started ({error.strerror})") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise DMRError(
            f"{python} cannot run PyTorch ({reason}); make bench installs it, or name an "
            f"interpreter that has benchmarks/requirements.txt with --peer-python"
        )
    return json.loads(done.stdout)


def write(found, options):
    """Write JSON and Markdown."""
    text = json.dumps(found, indent=1) + "\n"
    if options.json:
        Path(options.json).write_text(text, encoding="utf-8")
    if options.out_dir:
        out = Path(options.out_dir)
        (out / "comparison.json").write_text(text, encoding="utf-8")
        (out / "comparison.md").write_text(markdown(found) + "\n", encoding="utf-8")


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _read(arguments):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", metavar="NAME", default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2, help="of each turn, at least one run")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--batch",
        type=int,
        help="images (default: training 64, of ImageNet's networks 16; inference 64, beside 1)",
    )
    parser.add_argument(
        "--peer-python",
        default=os.environ.get("DMR_PEER_PYTHON", sys.executable),
        help="interpreter with benchmarks/requirements.txt (default: DMR_PEER_PYTHON or this one)",
    )
    parser.add_argument(
        "--forms", nargs="+", choices=FORMS, default=list(FORMS), help="of PyTorch (default: all)"
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=PRECISIONS,
        default=list(PRECISIONS),
        help="of PyTorch (default: all; without AVX512-BF16 or AMX its bfloat16 is emulated)",
    )
    parser.add_argument("--json", metavar="FILE", help="write every measurement here")
    parser.add_argument("--out-dir", metavar="DIR", help="write JSON and Markdown here")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or not options.seconds > 0:
        parser.error("--rounds and --seconds must be above 0")
    if options.batch is not None and options.batch < 1:
        parser.error("--batch must be at least 1")
    for name in options.networks:
        get_spec(name)
    try:
        if options.out_dir:
            os.makedirs(options.out_dir, exist_ok=True)
        if options.json:
            Path(options.json).touch()
    except OSError as error:
        raise DMRError(f"{error.filename} cannot be written ({error.strerror})") from None
    return options


if __name__ == "__main__":
    run(main)
