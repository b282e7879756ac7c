"""``dmr bench --profile`` and ``dmr bench --predict``: where a step's time goes, and would go."""

import json
import math
import re

from ..errors import DMRError, flag_of

#: Flags of --predict that say something of several machines only.
_BETWEEN = ("network_bandwidth", "server_bandwidth", "key_microseconds", "servers")

#: What is assumed for one server, and for handling an array, where nothing is said;
#: benchmarks/scaling.py fits both to what it measures.
_SERVER_GIGABYTES, _KEY_MICROSECONDS = 1.0, 100.0

#: Flags of other measurements.
_OTHERS = {
    "profile": ("growth", "only", "seconds", "gpus"),
    "predict": ("growth", "only", "seconds", "gpus", "batch", "rounds"),
}

#: (flag, type, help)
_PREDICT = (
    ("--images-per-second", float, "of one device by itself"),
    ("--batch-per-device", int, "images of one device in a step"),
    ("--devices", int, "in each machine (default: 1)"),
    ("--machines", str, "numbers of machines, such as 1,2,4,8 (default: 1)"),
    ("--device-bandwidth", float, "GB/s into a device and out of it at the same time"),
    ("--network-bandwidth", float, "Gbit/s into a machine and out of it at the same time"),
    ("--servers", int, "parameter servers in all (default: one for each machine)"),
    (
        "--server-bandwidth",
        float,
        f"GB/s that one server takes in, adds up and gives out (assumed: {_SERVER_GIGABYTES:g})",
    ),
    (
        "--key-microseconds",
        float,
        f"for each array that is sent, whatever its size (assumed: {_KEY_MICROSECONDS:g})",
    ),
    ("--read-per-core", float, "images per second that one core reads and augments"),
    ("--cores", int, "of a machine that read"),
    (
        "--overlap",
        float,
        "share of the sums that can be made during the backward pass and is (default: 1)",
    ),
)


def add_profile(parser):
    """The flags of ``--profile``."""
    group = parser.add_argument_group("where the time goes")
    group.add_argument(
        "--profile", action="store_true", help="share of each kind of operator in a training step"
    )
    group.add_argument("--infer", action="store_true", help="with --profile: of inference")


def add_predict(parser):
    """The flags of ``--predict``."""
    group = parser.add_argument_group("several devices and machines, predicted")
    group.add_argument(
        "--predict", action="store_true", help="time of a training step on given hardware"
    )
    group.add_argument(
        "--measured",
        metavar="FILE",
        help="what dmr bench --json wrote: has --images-per-second and --batch-per-device",
    )
    for flag, kind, text in _PREDICT:
        group.add_argument(flag, type=kind, help=text, metavar="N")


def check_flags(options):
    """Refuse flags that would do nothing with --profile or --predict, or without."""
    if options.profile and options.predict:
        raise DMRError("give --profile or --predict, not both")
    if options.infer and not options.profile:
        raise DMRError("--infer does nothing without --profile")
    if not options.predict:
        for flag in (*(flag for flag, _, _ in _PREDICT), "--measured"):
            if _value(options, flag) is not None:
                raise DMRError(f"{flag} does nothing without --predict")
    for mode in ("profile", "predict"):
        if not getattr(options, mode):
            continue
        for name in _OTHERS[mode]:
            if getattr(options, name) is not None and getattr(options, name) is not False:
                raise DMRError(f"--{name} does nothing with --{mode}")
        if len(options.networks) > 1:
            raise DMRError(f"--{mode} is of one network, not of {len(options.networks)}")


def _name(options):
    return options.networks[0] if options.networks else "cifar_dmrnet14"


def _value(options, flag):
    return getattr(options, flag[2:].replace("-", "_"))


def profile(options):
    """Measure and print where the time of a network's step goes.

    Returns
    -------
    dict, function
        For JSON, and what draws it into a file.
    """
    from ..bench.conditions import describe, machine
    from ..bench.floor import measured_peak
    from ..bench.profile import AROUND, BETWEEN, measure_profile, shares_of_peak
    from ..bench.profile_plot import draw
    from ..bench.speeds import BenchOptions
    from ..models.names import network
    from ..system.text_tables import text_table

    spec = network(_name(options))
    given = {name: getattr(options, name) for name in ("batch", "rounds")}
    wanted = BenchOptions(**{name: value for name, value in given.items() if value is not None})
    batch = wanted.batch_for(spec)
    title = f"{spec.name}, {'inference' if options.infer else 'training step'}, batch {batch}"
    conditions = machine()
    print("\n".join(describe(conditions)) + "\n", flush=True)
    peak = measured_peak()
    kind = "infer" if options.infer else "train"
    found = measure_profile(kind, spec.name, batch, wanted.rounds)
    rows = [
        (part, f"{spent:.2f}", f"{100 * found.share(part):.1f}%")
        for part, spent in found.parts.items()
    ]
    rows.append(("whole step", f"{found.step:.2f}", "100.0%"))
    print(text_table((title, "ms", "share"), rows, (1, 2)))
    shares = shares_of_peak(found.convolutions, peak)
    print(f"\npeak: {2 * peak.multiply_adds / 1e9:,.0f} GFLOP/s, by {peak.by}\n")
    header = ("convolution", "shape", "number", "ms", "GFLOP/s", "of the peak")
    rows = [
        (
            *(one.what.split(", ")[1], one.shape, one.count, f"{one.milliseconds:.2f}"),
            *(f"{one.gigaflops:,.0f}", f"{100 * share:.0f}%"),
        )
        for one, share in zip(found.convolutions, shares)
    ]
    print(text_table(header, rows, (2, 3, 4, 5)))
    print(
        f"\nMedians of {wanted.rounds} steps. A multiply-add is two operations. Shares of "
        f"differences ({AROUND}, {BETWEEN}) can be negative by noise."
    )
    every = [
        {**vars(one), "gigaflops": one.gigaflops, "share_of_peak": share}
        for one, share in zip(found.convolutions, shares)
    ]
    values = {"machine": conditions, "network": spec.name, "kind": kind, "batch": batch}
    values.update(rounds=wanted.rounds, step=found.step, parts=found.parts, peak=vars(peak))
    return {**values, "convolutions": every}, lambda: draw(title, found)


def predict(options):
    """Print what a training step of a network takes on given hardware; returns as profile."""
    from ..bench.predict import gradients_of
    from ..bench.predict import predict as predict_step
    from ..bench.predict_plot import draw
    from ..models.names import network
    from ..paper.dataset_facts import PUBLISHED
    from ..paper.recipes import CIFAR, IMAGENET
    from ..system.text_tables import text_table

    spec = network(_name(options))
    if options.measured:
        _read_speed(options, spec.name)
    machines = _machines(options.machines or "1")
    hardware = _hardware(options, machines)
    gradients = gradients_of(spec.name)
    steps = [predict_step(gradients, hardware, count) for count in machines]
    small = spec.stem == "cifar"
    recipe, facts = (CIFAR, PUBLISHED["cifar10"]) if small else (IMAGENET, PUBLISHED["imagenet"])
    images = recipe.epochs * facts.train_images
    print(f"{spec.name}, predicted, not measured\n")
    header = (
        *("machines", "devices", "batch", "images/s", "step", "compute", "in machine"),
        *("network", "servers", "arrays", "hidden", "reading", "efficiency", "bound by", "hours"),
    )
    rows = [
        (
            *(step.machines, step.devices, f"{step.images:,}", f"{step.images_per_second:,.0f}"),
            *(_ms(step.seconds), _ms(step.compute), _ms(step.within), _ms(step.network)),
            *(_ms(step.server), _ms(step.keys), _ms(step.hidden), _ms(step.reading)),
            *(f"{100 * step.efficiency:.0f}%", _BOUND[step.bound]),
            f"{images / step.images_per_second / 3600:,.1f}",
        )
        for step in steps
    ]
    print(text_table(header, rows, [i for i in range(len(header)) if i != 13]))
    print(
        f"\nMilliseconds of a step; hours of {recipe.epochs} epochs of {facts.train_images:,} "
        f"images. Gradients: {gradients.bytes / 1e6:.1f} MB in {len(gradients.sizes)} arrays.\n"
        f"step = max(compute + in machine + max(network, servers) + arrays - hidden, reading); "
        f"docs/performance.md"
    )
    if options.read_per_core is None:
        print("Reading is taken to keep up; --read-per-core and --cores say whether it does.")
    every = [{**vars(step), **{name: getattr(step, name) for name in _DERIVED}} for step in steps]
    found = {"predicted": True, "network": spec.name, "hardware": _json(vars(hardware))}
    found["gradients"] = {"bytes": gradients.bytes, "arrays": len(gradients.sizes)}
    return {**found, "steps": every}, lambda: draw(spec.name, steps)


#: What a step's JSON has beside its parts.
_DERIVED = ("seconds", "images_per_second", "efficiency", "bound")

#: What the table calls the parts of a step.
_BOUND = {
    "compute": "compute",
    "within": "in machine",
    "network": "network",
    "server": "servers",
    "keys": "arrays",
    "reading": "reading",
}


def _ms(seconds):
    return f"{1000 * seconds:,.1f}"


def _json(values):
    """JSON knows no infinity: what is not bounded is null."""
    return {key: None if value == float("inf") else value for key, value in values.items()}


def _read_speed(options, name):
    """Take speed and batch of a network's training from what ``dmr bench --json`` wrote."""
    for flag in ("--images-per-second", "--batch-per-device"):
        if _value(options, flag) is not None:
            raise DMRError(f"give {flag} or --measured, not both")
    try:
        with open(options.measured, encoding="utf-8") as file:
            speeds = json.load(file)["speeds"]
        found = [one for one in speeds if (one["network"], one["work"]) == (name, "training")]
        options.images_per_second = float(found[0]["images_per_second"])
        options.batch_per_device = int(found[0]["batch"])
    except OSError as error:
        raise DMRError(f"{options.measured} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DMRError(
            f"{options.measured} has no training speed of {name}; write it with: "
            f"dmr bench {name} --only training --json {options.measured}"
        ) from error


def _machines(text):
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[1-9][0-9]{0,4}", part) for part in parts):
        raise DMRError(f"--machines {text}: write numbers from 1, such as 1,2,4,8")
    return [int(part) for part in parts]


def _hardware(options, machines):
    from ..bench.predict import Hardware

    devices = 1 if options.devices is None else options.devices
    several, many = devices > 1 or max(machines) > 1, max(machines) > 1
    needed = ["--images-per-second", "--batch-per-device"]
    needed += ["--device-bandwidth"] if several else []
    needed += ["--network-bandwidth"] if many else []
    for flag in needed:
        if _value(options, flag) is None:
            raise DMRError(f"--predict needs {flag} for this; docs/performance.md says of what")
    for name in _BETWEEN:
        if not many and getattr(options, name) is not None:
            raise DMRError(
                f"{flag_of(name)} does nothing for one machine; name several (--machines 1,2,4)"
            )
    if not several:
        for flag in ("--device-bandwidth", "--overlap"):
            if _value(options, flag) is not None:
                raise DMRError(f"{flag} does nothing for one device, which sums nothing")
    if (options.read_per_core is None) != (options.cores is None):
        raise DMRError("give both --read-per-core and --cores, or neither")
    for flag, _, _ in _PREDICT:
        value = _value(options, flag)
        least = flag in ("--key-microseconds", "--overlap")
        if not isinstance(value, (int, float)):
            continue
        if not (math.isfinite(value) and (value >= 0 if least else value > 0)):
            raise DMRError(f"{flag} must be {'at least' if least else 'above'} 0, not {value:g}")
    if options.overlap is not None and options.overlap > 1:
        raise DMRError(f"--overlap is a share, at most 1, not {options.overlap:g}")
    infinite = float("inf")
    reading = None if options.cores is None else options.read_per_core * options.cores
    server = _SERVER_GIGABYTES if options.server_bandwidth is None else options.server_bandwidth
    key = _KEY_MICROSECONDS if options.key_microseconds is None else options.key_microseconds
    return Hardware(
        images_per_second=options.images_per_second,
        batch=options.batch_per_device,
        devices=devices,
        device_bandwidth=1e9 * options.device_bandwidth if several else infinite,
        network_bandwidth=1e9 / 8 * options.network_bandwidth if many else infinite,
        server_bandwidth=1e9 * server if many else infinite,
        key_seconds=1e-6 * key if many else 0.0,
        servers=options.servers,
        read_per_second=infinite if reading is None else reading,
        overlap=1.0 if options.overlap is None else options.overlap,
    )
