"""The model of `predict.py` beside what one machine can measure of it.

    python benchmarks/scaling.py

trains small networks on random images, with one thread for each device: with 1, 2 and 4 CPU
contexts in one process, and with 1, 2 and 4 workers and one parameter server through the
loopback (dmr launch). From these times the model's constants are fitted: bytes a second over the
devices of a process, bytes a second through a server, seconds for an array. Printed are the
constants, and what the model with them says beside what was measured.

What one machine cannot show: all processes share its cores, so computing is modelled as so many
times longer as there are more processes than cores; nothing is summed while others compute; and
the loopback is no network.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
from conditions import check_writable, describe, machine
from predict import Hardware, gradients_of, predict
from tqdm import tqdm

from dmr_gluon.cli.program import run
from dmr_gluon.errors import DMRError
from dmr_gluon.system import program as child
from dmr_gluon.system.files import write_result
from dmr_gluon.system.machine import usable_cores
from dmr_gluon.system.text_tables import markdown_table

#: The same arrays, and sixteen times the bytes: to tell what an array costs from what a byte does.
NETWORKS = ("cifar_dmrnet8", "cifar_dmrnet8_w4")
COUNTS = (1, 2, 4)
_WARM_UP = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--batch", type=int, default=16, help="images of each device (16)")
    parser.add_argument("--steps", type=int, default=30, help="of each measurement (30)")
    parser.add_argument("--rounds", type=int, default=3, help="of all measurements (3)")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--work", metavar="NETWORK", help=argparse.SUPPRESS)
    parser.add_argument("--cpus", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in ("batch", "steps", "rounds"):
        if getattr(options, name) < 1:
            raise DMRError(f"--{name} must be at least 1, not {getattr(options, name)}")
    if options.work:
        work(options)
        return
    check_writable(options.json)
    conditions = machine()
    print("\n".join("- " + line for line in describe(conditions)) + "\n", flush=True)
    points = measured(options)
    constants = fitted(points)
    modelled = [model(point, constants) for point in points]
    errors = [ours / point["seconds"] - 1 for ours, point in zip(modelled, points)]
    rows = [
        (
            *(point["network"], point["what"], point["count"], f"{1000 * point['seconds']:.1f}"),
            *(f"{1000 * ours:.1f}", f"{100 * error:+.0f}%"),
        )
        for point, ours, error in zip(points, modelled, errors)
    ]
    header = ("network", "over", "number", "measured ms", "modelled ms", "error")
    print(markdown_table(header, rows, (2, 3, 4, 5)))
    units = {"device_bandwidth": ("GB/s", 1e-9), "server_bandwidth": ("GB/s", 1e-9)}
    units["key_seconds"] = ("us", 1e6)
    print()
    for name, value in constants.items():
        unit, factor = units[name]
        print(f"- {name.replace('_', ' ')}: {value * factor:.3g} {unit}")
    print(f"- largest error: {100 * max(errors, key=abs):+.0f}%")
    if options.json:
        found = {"machine": conditions, "constants": constants, "points": points}
        found.update(modelled=modelled, batch=options.batch)
        write_result(options.json, json.dumps(found, indent=1))


def measured(options):
    """A dict for each network, way and number: median seconds of a step over all rounds."""
    places = [
        (name, what, count)
        for name in options.networks
        for what in ("devices", "workers")
        for count in COUNTS
    ]
    found = {place: [] for place in places}
    for place in tqdm(places * options.rounds, "scaling", unit=" jobs", disable=None, leave=False):
        found[place] += in_processes(*place, options)
    medians = {place: statistics.median(seconds) for place, seconds in found.items()}
    return [
        {
            "network": name,
            "what": what,
            "count": count,
            "batch": options.batch,
            "seconds": seconds,
            "alone": medians[name, "devices", 1],
        }
        for (name, what, count), seconds in medians.items()
    ]


def in_processes(name, what, count, options):
    """Seconds of each step, on so many devices or workers."""
    command = [sys.executable, os.path.abspath(__file__), "--work", name]
    command += ["--batch", str(options.batch), "--steps", str(options.steps)]
    if what == "workers":
        job = ["launch", "-n", str(count), "-s", "1", "--", *command]
        command = child.command("dmr_gluon.cli.main", *job)
    else:
        command += ["--cpus", str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise DMRError(f"{name} on {count} {what} failed: {said[-1]}")
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[0")))


def work(options):
    """Be one process of a measurement; the first one prints the seconds of its steps."""
    from dmr_gluon import get_model
    from dmr_gluon.devices import make_devices
    from dmr_gluon.models.serialization import prepare_to_run
    from dmr_gluon.paper.recipes import CIFAR
    from dmr_gluon.training.distributed import ALONE, join
    from dmr_gluon.training.optimizer import make_optimizer
    from dmr_gluon.training.step import TrainingStep

    group = join("dist_sync") if os.environ.get("DMLC_ROLE") == "worker" else ALONE
    devices = make_devices(cpus=options.cpus)
    net = get_model(options.work)
    net.initialize(ctx=devices)
    prepare_to_run(net, devices)
    step = TrainingStep(net, make_optimizer(CIFAR), devices, group=group)
    random = np.random.RandomState(group.rank)
    count = options.batch * len(devices)
    images = random.standard_normal((count, 3, 32, 32)).astype(np.float32)
    labels = random.randint(0, 10, count)
    found = []
    for _ in range(_WARM_UP + options.steps):
        began = time.perf_counter()
        results = step(images, labels, 1e-4, total=count * group.count)
        for loss, _ in results:
            loss.asscalar()
        step.trainer._params[0].list_data()[0].wait_to_read()
        found.append(time.perf_counter() - began)
    group.wait()
    if group.first:
        print(json.dumps(found[_WARM_UP:]), flush=True)


gradients = functools.lru_cache(None)(gradients_of)


def hardware(point, **constants):
    """One machine's share of the cores, as the model has it, with some constants."""
    crowding = max(1, point["count"] / usable_cores())
    rate = point["batch"] / (point["alone"] * crowding)
    devices = point["count"] if point["what"] == "devices" else 1
    if point["what"] == "workers":  # whose one device is the machine's memory itself
        constants["device_bandwidth"] = float("inf")
    return Hardware(rate, point["batch"], devices=devices, servers=1, overlap=0.0, **constants)


def model(point, constants):
    """Seconds of a step."""
    workers = point["count"] if point["what"] == "workers" else 1
    return predict(gradients(point["network"]), hardware(point, **constants), workers).seconds


def fitted(points):
    """The constants with which the model comes closest, by relative error."""
    several = [point for point in points if point["count"] > 1]
    within = [point for point in several if point["what"] == "devices"]
    (per_byte,) = smallest_errors(within, [{"device_bandwidth": 1.0}])
    between = [point for point in several if point["what"] == "workers"]
    served, handled = smallest_errors(between, [{"server_bandwidth": 1.0}, {"key_seconds": 1.0}])
    infinite = float("inf")
    return {
        "device_bandwidth": 1 / per_byte if per_byte else infinite,
        "server_bandwidth": 1 / served if served else infinite,
        "key_seconds": handled,
    }


def smallest_errors(points, units):
    """How much of each unit's time must be added to computing; by least squares, none negative.

    The model is a sum to which each constant adds its own multiple, so that its share for a unit
    of it is what the model says beyond computing.
    """
    seconds = np.array([point["seconds"] for point in points])
    computing = np.array([model(point, {}) for point in points])
    columns = np.array([[model(point, unit) for unit in units] for point in points])
    columns -= computing[:, None]
    used = list(range(len(units)))
    while used:
        scaled = columns[:, used] / seconds[:, None]
        found = np.linalg.lstsq(scaled, (seconds - computing) / seconds, rcond=None)[0]
        if (found >= 0).all():
            break
        del used[int(np.argmin(found))]
    return [float(found[used.index(i)]) if i in used else 0.0 for i in range(len(units))]


if __name__ == "__main__":
    run(main)
