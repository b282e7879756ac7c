"""``dmr bench``: how fast this project is on this machine."""

import json
import os

from .errors import DMRError

_KINDS = ("training", "inference", "start", "memory")


def add_bench(commands):
    """Add bench to the parser of ``dmr``."""
    parser = commands.add_parser(
        "bench", help="speed, memory and start of networks on this machine"
    )
    parser.add_argument(
        "networks", metavar="NETWORK", nargs="*", help="names (default: cifar_dmrnet14)"
    )
    parser.add_argument(
        "--batch", type=int, metavar="N",
        help="images of a training step, and of an answer beside single ones (default: 64; of "
        "224x224 images 16)",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=int, metavar="N",
        help="the processes take turns so often (default: 5)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, metavar="S",
        help="for each process, batch size and round, one run at least (default: 0.5)",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=_KINDS, help="measure no more than these")
    parser.add_argument("--gpus", metavar="N", help="the one GPU to use; without it, the CPU")
    parser.add_argument(
        "--growth", action="store_true",
        help="instead: how time and memory of a training step grow with depth, width, batch and "
        "branches",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured")
    parser.add_argument("--picture", metavar="FILE", help="draw it: .png, .svg or .pdf")
    parser.set_defaults(function=_bench)


def _bench(options):
    from .networks import network

    names = list(dict.fromkeys(options.networks))
    for name in names:
        network(name)
    for path in filter(None, (options.json, options.picture)):
        _check_place(path)
    if options.growth and (names or options.only):
        what = "NETWORK" if names else "--only"
        raise DMRError(f"--growth measures networks of its own in training; leave out {what}")
    if options.picture and options.only and not {"training", "inference"} & set(options.only):
        raise DMRError("--picture draws speeds; add training or inference to --only")

    from .bench.conditions import describe, machine
    from .bench.speeds import BenchOptions
    from .report.plots import check_picture

    if options.picture:
        check_picture(options.picture)
    given = {
        name: getattr(options, name)
        for name in ("batch", "rounds", "seconds")
        if getattr(options, name) is not None
    }
    wanted = BenchOptions(gpu=_gpu(options.gpus), only=tuple(options.only or _KINDS), **given)
    found = {"machine": machine()}
    print("\n".join(describe(found["machine"])) + "\n", flush=True)
    found["options"] = {"rounds": wanted.rounds, "seconds": wanted.seconds, "gpu": wanted.gpu}
    draw = (_growth if options.growth else _speeds)(names or ["cifar_dmrnet14"], wanted, found)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(json.dumps(found, indent=1) + "\n")
        print(options.json)
    if options.picture:
        from .cli_networks import write_picture

        write_picture(lambda: draw(options.picture), options.picture)


def _check_place(path):
    """Refuse a file that cannot be written, before hours of measuring."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise DMRError(f"{path} cannot be written; name a file in a folder that is there")


def _gpu(text):
    """The number of the one GPU that ``--gpus`` names, which must be there."""
    if text is None:
        return None
    from .training.devices import make_devices, parse_gpus

    if len(parse_gpus(text)) != 1:
        raise DMRError(f"--gpus {text}: dmr bench measures one GPU; name one")
    make_devices(text)
    return text


def _speeds(names, wanted, found):
    """Measure, print, fill in ``found``; returns a function that draws it."""
    from dataclasses import asdict

    from tqdm import tqdm

    from .bench.floor import measured_peak
    from .bench.speeds import measure_network, measure_start
    from .bench.tables import draw_speeds, speed_table, step_table

    speeds, steps, peak = [], [], None
    if {"training", "inference"} & set(wanted.only):
        peak = measured_peak(wanted.gpu)
        found["peak"] = asdict(peak)
        print(f"peak: {peak.multiply_adds / 1e9:,.0f} billion multiply-adds/s, by {peak.by}\n")
    if "start" in wanted.only:
        found["start"] = measure_start()
    for name in tqdm(names, "bench", unit=" networks", disable=None, leave=False):
        of_this, step = measure_network(name, wanted, peak)
        speeds += of_this
        steps.append(step)
    found.update(speeds=[asdict(one) for one in speeds], steps=steps)
    if speeds:
        print(speed_table(speeds) + "\n")
        print("of the peak: time that the multiply-adds would take at the peak, by the time taken;")
        print(f"medians of {wanted.rounds} rounds\n")
    if {"start", "memory"} & set(wanted.only):
        print(step_table(steps) + "\n")
    if "start" in found:
        print(", ".join(f"{what}: {seconds:.3f} s" for what, seconds in found["start"].items()))
    return lambda out: draw_speeds(speeds, out)


def _growth(_, wanted, found):
    """The same for ``--growth``."""
    from tqdm import tqdm

    from .bench.growth import draw_growth, growth_table, measure_curve, series

    wanted_curves = series(wanted.batch or 64).items()
    curves = [
        measure_curve(against, steps, wanted)
        for against, steps in tqdm(
            wanted_curves, "growth", unit=" curves", disable=None, leave=False
        )
    ]
    found["curves"] = [curve.describe() for curve in curves]
    print(growth_table(curves) + "\n")
    print(
        "ms a step: a whole training step. MB: the most memory beyond that before the network was "
        "made.\nexponent c: y = a x^c fits best, by least squares of logarithms."
    )
    return lambda out: draw_growth(curves, out)
