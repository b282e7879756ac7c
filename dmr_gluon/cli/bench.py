"""``dmr bench``: how fast this project is on this machine."""

import json

from ..bench import KINDS, LEAST_GROWTH_BATCH
from ..errors import DMRError
from .bench_more import add_predict, add_profile, check_flags, predict, profile


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
    parser.add_argument("--only", nargs="+", choices=KINDS, help="measure no more than these")
    parser.add_argument("--gpus", metavar="N", help="the one GPU to use; without it, the CPU")
    parser.add_argument(
        "--growth", action="store_true",
        help="instead: how time and memory of a training step grow with depth, width, batch and "
        "branches",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured")
    parser.add_argument("--picture", metavar="FILE", help="draw it: .png, .svg or .pdf")
    add_profile(parser)
    add_predict(parser)
    parser.set_defaults(function=_bench)


def _bench(options):
    names = list(dict.fromkeys(options.networks))
    check_flags(options)
    _refuse(names, options)
    if options.profile or options.predict:
        _write(options, *(profile if options.profile else predict)(options))
        return

    from ..bench.conditions import describe, machine
    from ..bench.speeds import BenchOptions

    given = {
        name: getattr(options, name)
        for name in ("batch", "rounds", "seconds")
        if getattr(options, name) is not None
    }
    wanted = BenchOptions(gpu=_gpu(options.gpus), only=tuple(options.only or KINDS), **given)
    found = {"machine": machine()}
    print("\n".join(describe(found["machine"])) + "\n", flush=True)
    found["options"] = {"rounds": wanted.rounds, "seconds": wanted.seconds, "gpu": wanted.gpu}
    draw = (_growth if options.growth else _speeds)(names or ["cifar_dmrnet14"], wanted, found)
    _write(options, found, draw)


def _write(options, found, draw):
    if options.json:
        _write_json(found, options.json)
    if options.picture:
        from .networks import write_picture

        write_picture(draw, options.picture)


def _refuse(names, options):
    """What does not fit, before anything is measured."""
    from ..models.names import network
    from ..runs.learning_curve import check_picture
    from ..system.files import check_writable

    for name in names:
        network(name)
    if options.growth:
        if names or options.only:
            what = "NETWORK" if names else "--only"
            raise DMRError(f"--growth measures networks of its own in training; leave out {what}")
        if options.gpus is not None:
            raise DMRError("--growth measures on the CPU; leave out --gpus")
        if options.batch is not None and options.batch < LEAST_GROWTH_BATCH:
            raise DMRError(
                f"--growth needs a --batch of at least {LEAST_GROWTH_BATCH}, not {options.batch}: "
                f"what smaller steps take is lost in MXNet's own memory"
            )
    if options.only and not {"training", "inference"} & set(options.only):
        for name in ("rounds", "seconds"):
            if getattr(options, name) is not None:
                raise DMRError(
                    f"--{name} is for speeds; leave it out, or add training or inference to --only"
                )
    if options.picture:
        check_picture(options.picture)
        if options.only and not {"training", "inference"} & set(options.only):
            raise DMRError("--picture draws speeds; add training or inference to --only")
    check_writable(options.json, options.picture)


def _write_json(found, path):
    from ..system.files import write_result

    write_result(path, json.dumps(found, indent=1))
    print(path)


def _gpu(text):
    """The number of the one GPU that ``--gpus`` names, which must be there."""
    if text is None:
        return None
    from ..devices import make_devices
    from ..system.cuda import parse_gpus

    if len(parse_gpus(text)) != 1:
        raise DMRError(f"--gpus {text}: dmr bench measures one GPU; name one")
    make_devices(text)
    return text


def _speeds(names, wanted, found):
    """Measure, print, fill in ``found``; returns a function that draws it."""
    from dataclasses import asdict

    from tqdm import tqdm

    from ..bench.floor import measured_peak
    from ..bench.speeds import measure_network, measure_start
    from ..bench.tables import draw_speeds, speed_table, step_table

    speeds, steps, peak = [], [], None
    if {"training", "inference"} & set(wanted.only):
        peak = measured_peak(wanted.gpu)
        found["peak"] = asdict(peak)
        print(
            f"peak: {peak.multiply_adds / 1e9:,.0f} billion multiply-adds per second in float32, "
            f"reached in {peak.by}\n",
            flush=True,
        )
    if "start" in wanted.only:
        found["start"] = measure_start()
    for name in tqdm(names, "bench", unit=" networks", disable=None, leave=False):
        of_this, step = measure_network(name, wanted, peak)
        speeds += of_this
        steps.append(step)
    found.update(speeds=[asdict(one) for one in speeds], steps=steps)
    if speeds:
        print(speed_table(speeds) + "\n")
        print(
            f"Medians of {wanted.rounds} rounds. live: as in the process that made the network;\n"
            f"others: as dmr export writes it. of the peak: time that the multiply-adds would\n"
            f"take at the peak, by the time taken.\n"
        )
    if {"start", "memory"} & set(wanted.only):
        print(step_table(steps) + "\n")
    if "start" in found:
        print(", ".join(f"{what}: {seconds:.3f} s" for what, seconds in found["start"].items()))
    return lambda: draw_speeds(speeds)


def _growth(_, wanted, found):
    """The same for ``--growth``."""
    from ..bench.growth import draw_growth, growth_table, measure_growth

    curves = measure_growth(wanted)
    found["curves"] = [curve.describe() for curve in curves]
    print(growth_table(curves) + "\n")
    print(
        "MB: the most memory, beyond that of a process that trains cifar_dmrnet8 on one image.\n"
        "exponent: c in the y = a x^c that fits best, by least squares of logarithms.\n"
    )
    return lambda: draw_growth(curves)
