"""Predict the time of a training step on several devices and machines.

    python benchmarks/predict.py dmrnet44 --images-per-second 200 --batch-per-device 32 \\
        --devices 8 --machines 1,2,4,8 --device-bandwidth 10 --network-bandwidth 25

Predicted, not measured. The model has the parts of :class:`dmr_gluon.training.step.TrainingStep`:
each device computes on its own images, the gradients are summed within a machine, then over
machines by parameter servers (``dist_sync``), and every device makes the update itself. Each
machine runs one worker; servers are dealt out over the machines in turn, as by ``dmr launch``.

Sizes are in bytes and times in seconds, unless a name says otherwise. docs/performance.md explains
the terms and the origin of their constants.
"""

import itertools
import math
import re
from dataclasses import dataclass
from typing import Optional, Tuple

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.errors import DMRError
from dmr_gluon.models.names import get_spec

#: Bytes of a value of a gradient, in float32.
_VALUE = 4
#: Values from which MXNet cuts an array into a part for each server; smaller ones go to one
#: server whole (MXNET_KVSTORE_BIGARRAY_BOUND).
_BIG = 1_000_000
#: By which MXNet's kvstore chooses the server of a small array: key * _SPREAD % servers.
_SPREAD = 9973
#: Time of the backward pass by that of a whole step: each convolution is computed once forwards
#: and twice backwards, for its input and its weights.
_BACKWARD = 2 / 3


@dataclass(frozen=True)
class Gradients:
    """What every device has to sum in a step.

    Parameters
    ----------
    network : str
    sizes : tuple of int
        Values of each bucket (:mod:`.flat_parameters`), in the Trainer's order, whose
        numbers are their keys.
    multiply_adds : tuple of int
        Of the layers whose weights are in a bucket, for one image.
    """

    network: str
    sizes: Tuple[int, ...]
    multiply_adds: Tuple[int, ...]

    @property
    def bytes(self):
        return _VALUE * sum(self.sizes)


@dataclass(frozen=True)
class Hardware:
    """What a prediction is for.

    Parameters
    ----------
    images_per_second : float
        That one device trains by itself, on ``batch`` images a step.
    batch : int
        Images of a device in a step.
    devices : int
        In each machine.
    device_bandwidth : float
        Bytes a second into a device, and at the same time out of it.
    network_bandwidth : float
        Bytes a second into a machine, and at the same time out of it.
    server_bandwidth : float
        Bytes a second that one server takes in, adds up and gives out again.
    key_seconds : float
        That a worker or a server needs for each array, whatever its size.
    servers : int, optional
        In all. Default: one for each machine.
    read_per_second : float, optional
        Images that a machine can read and augment. Default: as many as it likes.
    overlap : float
        Share of what could be summed while the backward pass goes on that really is. 0 where
        summing takes the time of the same cores.
    """

    images_per_second: float
    batch: int
    devices: int = 1
    device_bandwidth: float = float("inf")
    network_bandwidth: float = float("inf")
    server_bandwidth: float = float("inf")
    key_seconds: float = 0.0
    servers: Optional[int] = None
    read_per_second: float = float("inf")
    overlap: float = 1.0

    def __post_init__(self):
        for name, unit in (
            ("images_per_second", "images a second"),
            ("batch", "images"),
            ("devices", "devices"),
            ("device_bandwidth", "bytes a second"),
            ("network_bandwidth", "bytes a second"),
            ("server_bandwidth", "bytes a second"),
            ("read_per_second", "images a second"),
        ):
            if not getattr(self, name) > 0:
                raise DMRError(f"{name} must be above 0 {unit}, not {getattr(self, name)}")
        if not self.key_seconds >= 0:
            raise DMRError(f"key_seconds must be at least 0, not {self.key_seconds}")
        if not 0 <= self.overlap <= 1:
            raise DMRError(f"overlap must be from 0 to 1, not {self.overlap}")
        if self.servers is not None and self.servers < 1:
            raise DMRError(f"servers must be at least 1, not {self.servers}")


@dataclass(frozen=True)
class Step:
    """A step as it is predicted; times in seconds.

    Parameters
    ----------
    machines, devices : int
        Machines, and devices in all of them.
    images : int
        Of all devices together.
    compute : float
        Forwards, backwards and update.
    within : float
        Summing over a machine's devices, or bringing gradients to its memory and back.
    network : float
        Bytes through the busiest machine's network.
    server : float
        Bytes through the busiest server.
    keys : float
        Handling of the arrays, whatever their size.
    reading : float
    hidden : float
        Summing that is done while the backward pass goes on.
    """

    machines: int
    devices: int
    images: int
    compute: float
    within: float
    network: float
    server: float
    keys: float
    reading: float
    hidden: float

    @property
    def between(self):
        """Summing over machines: network and servers work at the same time."""
        return max(self.network, self.server) + self.keys

    @property
    def seconds(self):
        """Images are read while others are computed on: the slower of the two counts."""
        return max(self.compute + self.within + self.between - self.hidden, self.reading)

    @property
    def images_per_second(self):
        return self.images / self.seconds

    @property
    def efficiency(self):
        """Speed by that of so many devices that need not wait for anything."""
        return self.compute / self.seconds

    @property
    def bound(self):
        """What the devices wait for most; ``compute`` if they hardly wait (under a tenth)."""
        if self.efficiency > 0.9:
            return "compute"
        if self.reading >= self.seconds:
            return "reading"
        return max(("within", "network", "server", "keys"), key=lambda name: getattr(self, name))


def gradients_of(name):
    """What a network's parameters are, from its name; builds it."""
    from dmr_gluon.models.complexity import image_size, measure
    from dmr_gluon.models.network import Network
    from dmr_gluon.training.flat_parameters import places_of, trained_parameters

    spec = get_spec(name)
    net, size = Network(spec), image_size(spec)
    complexity = measure(net.portable_symbol(), (3, size, size))
    costs = {layer.name + "_weight": layer.multiply_adds for layer in complexity.layers}
    parameters = trained_parameters(net)
    places = places_of(parameters)
    count = 1 + max(bucket for bucket, _ in places)
    sizes, multiply_adds = [0] * count, [0] * count
    for parameter, (bucket, start) in zip(parameters, places):
        sizes[bucket] = start + math.prod(parameter.shape)
        multiply_adds[bucket] += costs.get(parameter.name, 0)
    return Gradients(spec.name, tuple(sizes), tuple(multiply_adds))


def server_shares(sizes, servers):
    """The share of all values that each server gets, as MXNet's kvstore deals them out.

    Parameters
    ----------
    sizes : sequence of int
        Of each array, in the order of its key.
    servers : int

    Returns
    -------
    list of float
        They sum to 1.
    """
    values = [0.0] * servers
    for key, size in enumerate(sizes):
        if size < _BIG:
            values[key * _SPREAD % servers] += size
        else:
            values = [value + size / servers for value in values]
    return [value / sum(sizes) for value in values]


def machine_shares(shares, machines):
    """The shares of each machine's servers together; server k is on machine k % machines."""
    return [sum(shares[machine::machines]) for machine in range(machines)]


def within_seconds(size, devices, machines, bandwidth):
    """Summing ``size`` bytes over the devices of one machine.

    Alone, a machine sums on its devices, each its share of the arrays: a device takes in and
    gives out (devices - 1) / devices of the bytes twice, for the sum and for its way back. With
    others, it sums in its own memory: each device gives all, and takes the sum.
    """
    if machines > 1:
        return 2 * size / bandwidth
    return 2 * (devices - 1) / devices * size / bandwidth


def network_seconds(size, shares, machines, bandwidth):
    """Time of the busiest machine's network, in one direction (the other is as busy).

    A worker sends what is not its own machine's servers'; these get as much as all other
    workers have for them. The way back is the same with the directions exchanged.
    """
    busiest = max(1 - own + (machines - 1) * own for own in machine_shares(shares, machines))
    return size * busiest / bandwidth if machines > 1 else 0.0


def server_seconds(size, shares, machines, bandwidth):
    """Time of the busiest server: its share of every worker's gradients."""
    return machines * size * max(shares) / bandwidth


def keys_seconds(arrays, machines, servers, each):
    """Handling of the arrays, by a worker or, where it has more to handle, by a server."""
    return arrays * each * max(1, machines / servers)


def exposed_seconds(ready, costs):
    """How long summing goes on after the backward pass has ended.

    One array is summed after the other, in the order in which they are ready.

    Parameters
    ----------
    ready : sequence of float
        When each array is ready, ascending; the last one when the backward pass ends.
    costs : sequence of float
        How long summing each takes.
    """
    free = 0.0
    for begin, cost in zip(ready, costs):
        free = max(free, begin) + cost
    return free - ready[-1]


def predict(gradients, hardware, machines=1):
    """The step of a network on some machines.

    Parameters
    ----------
    gradients : Gradients
    hardware : Hardware
    machines : int

    Returns
    -------
    Step

    Raises
    ------
    DMRError
    """
    if machines < 1:
        raise DMRError(f"there must be at least 1 machine, not {machines}")
    size, images = gradients.bytes, hardware.batch * hardware.devices
    compute = hardware.batch / hardware.images_per_second
    within = within_seconds(size, hardware.devices, machines, hardware.device_bandwidth)
    network = server = keys = 0.0
    if machines > 1:
        shares = server_shares(gradients.sizes, hardware.servers or machines)
        network = network_seconds(size, shares, machines, hardware.network_bandwidth)
        server = server_seconds(size, shares, machines, hardware.server_bandwidth)
        keys = keys_seconds(len(gradients.sizes), machines, len(shares), hardware.key_seconds)
    by_size = within + max(network, server)
    ready = _ready(gradients, compute)
    costs = [
        by_size * length / sum(gradients.sizes) + keys / len(gradients.sizes)
        for length in reversed(gradients.sizes)
    ]
    hidden = hardware.overlap * (by_size + keys - exposed_seconds(ready, costs))
    return Step(
        machines=machines,
        devices=machines * hardware.devices,
        images=machines * images,
        compute=compute,
        within=within,
        network=network,
        server=server,
        keys=keys,
        reading=images / hardware.read_per_second,
        hidden=max(0.0, hidden),  # rounding
    )


def _ready(gradients, compute):
    """When each array is ready after the backward pass began: from the last layer to the first."""
    done = list(itertools.accumulate(reversed(gradients.multiply_adds)))
    return [_BACKWARD * compute * part / done[-1] for part in done]


#: What the table calls the parts of a step.
_PARTS = {
    "compute": "compute",
    "within": "in machine",
    "network": "network",
    "server": "servers",
    "keys": "arrays",
    "reading": "reading",
}


def main():
    from dmr_gluon.paper.dataset_facts import PUBLISHED
    from dmr_gluon.paper.recipes import CIFAR, IMAGENET
    from dmr_gluon.system.text_tables import text_table

    options = _parser().parse_args()
    spec = get_spec(options.network)
    machines = _machines(options.machines)
    hardware = _hardware(options, machines)
    gradients = gradients_of(spec.name)
    small = spec.stem == "cifar"
    recipe, facts = (CIFAR, PUBLISHED["cifar10"]) if small else (IMAGENET, PUBLISHED["imagenet"])
    images = recipe.epochs * facts.train_images
    rows = []
    for step in (predict(gradients, hardware, count) for count in machines):
        times = (step.seconds, step.compute, step.within, step.network, step.server, step.keys)
        rows.append(
            (
                *(step.machines, step.devices, f"{step.images:,}"),
                f"{step.images_per_second:,.0f}",
                *(f"{1000 * seconds:,.1f}" for seconds in (*times, step.hidden, step.reading)),
                *(f"{100 * step.efficiency:.0f}%", _PARTS[step.bound]),
                f"{images / step.images_per_second / 3600:,.1f}",
            )
        )
    header = (
        *("machines", "devices", "batch", "images/s", "step", "compute", "in machine"),
        *("network", "servers", "arrays", "hidden", "reading", "efficiency", "bound by", "hours"),
    )
    print(f"{spec.name}, predicted, not measured\n")
    print(text_table(header, rows, [i for i in range(len(header)) if i != 13]))
    print(
        f"\nMilliseconds of a step; hours of {recipe.epochs} epochs of {facts.train_images:,} "
        f"images. Gradients: {gradients.bytes / 1e6:.1f} MB in {len(gradients.sizes)} arrays."
    )


def _parser():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help="a name, such as dmrnet44")
    for flag, kind, default, text in (
        ("--images-per-second", float, None, "of one device by itself"),
        ("--batch-per-device", int, None, "images of one device in a step"),
        ("--devices", int, 1, "in each machine (1)"),
        ("--machines", str, "1", "numbers of machines, such as 1,2,4,8 (1)"),
        ("--device-bandwidth", float, None, "GB/s into and out of a device at the same time"),
        ("--network-bandwidth", float, None, "Gbit/s into and out of a machine at the same time"),
        ("--servers", int, None, "parameter servers in all (one per machine)"),
        ("--server-bandwidth", float, 1.0, "GB/s that a server takes in, sums and sends (1)"),
        ("--key-microseconds", float, 100.0, "for each array that is sent (100)"),
        ("--read-per-core", float, None, "images/s that one core reads and augments"),
        ("--cores", int, None, "of a machine that read"),
        ("--overlap", float, 1.0, "share of the possible overlap with the backward pass (1)"),
    ):
        parser.add_argument(flag, type=kind, default=default, metavar="N", help=text)
    return parser


def _machines(text):
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[1-9][0-9]{0,4}", part) for part in parts):
        raise DMRError(f"--machines {text}: write numbers from 1, such as 1,2,4,8")
    return [int(part) for part in parts]


def _hardware(options, machines):
    many, several = max(machines) > 1, max(machines) > 1 or options.devices > 1
    for name, needed in (
        *(("images_per_second", True), ("batch_per_device", True)),
        *(("device_bandwidth", several), ("network_bandwidth", many)),
    ):
        if needed and getattr(options, name) is None:
            raise DMRError(f"give --{name.replace('_', '-')} too; see docs/performance.md")
    if (options.read_per_core is None) != (options.cores is None):
        raise DMRError("give both --read-per-core and --cores, or neither")
    reading = None if options.cores is None else options.read_per_core * options.cores
    return Hardware(
        images_per_second=options.images_per_second,
        batch=options.batch_per_device,
        devices=options.devices,
        device_bandwidth=1e9 * (options.device_bandwidth or math.inf),
        network_bandwidth=1e9 / 8 * (options.network_bandwidth or math.inf),
        server_bandwidth=1e9 * options.server_bandwidth,
        key_seconds=1e-6 * options.key_microseconds,
        servers=options.servers,
        read_per_second=math.inf if reading is None else reading,
        overlap=options.overlap,
    )


if __name__ == "__main__":
    run(main)
