"""Subcommands of ``dmr`` about the networks themselves. None needs data."""

import json
import os
import re
import sys
import time
from dataclasses import asdict
from decimal import Decimal

from ..errors import DMRError, flag_of

#: Largest height and width whose counts fit MXNet's integers.
_LARGEST_IMAGE = 10_000


def add_commands(commands):
    """Add networks, paths, verify, convert and import-authors to the parser of ``dmr``."""
    _add_networks(commands)
    _add_paths(commands)
    _add_verify(commands)
    _add_convert(commands)
    _add_import_authors(commands)


def _add_networks(commands):
    parser = commands.add_parser(
        "networks", help="list the paper's networks with their sizes, or one layer by layer"
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="a network, such as cifar_dmrnet56")
    parser.add_argument("--classes", type=int, help="outputs (default: 10, ImageNet 1000)")
    parser.add_argument("--image-size", type=int, help="height and width (default: 32 or 224)")
    parser.set_defaults(function=_networks)


def _networks(options):
    if options.name is None:
        for name in ("classes", "image_size"):
            if getattr(options, name) is not None:
                raise DMRError(f"{flag_of(name)} is for one network: dmr networks NAME")
        _list_networks()
        return
    from ..models.names import get_spec

    if options.image_size is not None and not 1 <= options.image_size <= _LARGEST_IMAGE:
        raise DMRError(f"--image-size must be from 1 to {_LARGEST_IMAGE}, not {options.image_size}")
    spec = get_spec(options.name, classes=options.classes)

    from ..models.complexity import image_size, measure
    from ..models.network import Network
    from ..system.text_tables import text_table

    size = options.image_size or image_size(spec)
    complexity = measure(Network(spec).portable_symbol(), (3, size, size))
    rows = [
        (
            layer.name,
            layer.kind,
            "x".join(map(str, layer.output)),
            f"{layer.parameters:,}",
            f"{layer.multiply_adds:,}" if layer.multiply_adds else "",
        )
        for layer in complexity.layers
    ]
    print(text_table(("layer", "kind", "output", "parameters", "multiply-adds"), rows, (3, 4)))
    print(
        f"\n{spec.name}: depth {complexity.depth}, {complexity.parameters:,} parameters, "
        f"{complexity.multiply_adds:,} multiply-adds and {complexity.activations:,} activations "
        f"for an image of {size}x{size}"
    )


def _list_networks():
    from ..analysis.published import check_parameters, network_sizes
    from ..paper.numbers import NETWORKS
    from ..system.text_tables import text_table

    rows, notes, sizes = [], set(), network_sizes()
    for published in NETWORKS:
        size = sizes[published.name]
        check = check_parameters(published, size["parameters"])
        notes |= {check.note} if check and check.note else set()
        rows.append(
            (
                published.name,
                published.source,
                size["depth"],
                f"{size['parameters'] / 1e6:.3f}",
                f"{published.parameters or ''} {check.note if check else '':1}",
                f"{size['multiply_adds'] / 1e6:,.1f}",
                f"{size['activations'] / 1e6:.2f}",
            )
        )
    header = ("network", "paper", "depth", "parameters", "paper's", "multiply-adds", "activations")
    print(text_table(header, rows, (2, 3, 4, 5, 6)))
    print("\nIn millions; multiply-adds and activations of convolutions and FC, for one image.")
    _print_notes(notes)


def _print_notes(letters):
    from textwrap import fill

    from ..analysis.published import NOTES

    for letter in sorted(letters):
        print(fill(NOTES[letter], 96, initial_indent=f"{letter}  ", subsequent_indent="   "))


def write_picture(draw, path):
    """Draw a picture into a file and print its path."""
    from ..runs import learning_curve as plots

    plots.write_picture(draw, path)
    print(path)


def _add_paths(commands):
    parser = commands.add_parser(
        "paths", help="list the lengths of paths through the networks (section 3.2, Figure 3)"
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="networks as built; for one, all lengths",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw Figure 3 into a .png, .svg or .pdf")
    parser.add_argument("--blocks", metavar="L,L", help="L of Figure 3 (default: 9,24)")
    parser.set_defaults(function=_paths)


def _paths(options):
    from ..analysis import path_plot
    from ..analysis.paths import of_network
    from ..models.names import get_spec
    from ..system.text_tables import text_table

    if options.blocks is not None and options.names:
        raise DMRError("--blocks is for the networks of Figure 3; leave out the names")
    blocks = "9,24" if options.blocks is None else options.blocks
    lengths = [part.strip() for part in blocks.split(",")]
    if not all(re.fullmatch("[0-9]{1,3}", part) and 1 <= int(part) <= 500 for part in lengths):
        raise DMRError(f"--blocks {blocks}: write numbers from 1 to 500, such as 9,24")
    if options.plot and options.names:
        raise DMRError("--plot draws the networks of Figure 3; leave out the names")
    if options.names:
        found = [(spec.name, of_network(spec)) for spec in map(get_spec, options.names)]
    else:
        found = [
            (f"{name}, L = {length}", distribution)
            for length in map(int, lengths)
            for name, distribution in path_plot.distributions(length)
        ]
    rows = [
        (
            name,
            f"{float(distribution.mean):.2f}",
            f"{distribution.std:.2f}",
            min(distribution.counts),
            max(distribution.counts),
            f"{Decimal(distribution.total):.4g}"
            if distribution.total > 1e9
            else distribution.total,
        )
        for name, distribution in found
    ]
    header = ("network", "average", "deviation", "shortest", "longest", "paths")
    print(text_table(header, rows, (1, 2, 3, 4, 5)))
    if len(options.names) == 1:
        ((_, distribution),) = found
        shares = [
            (
                length,
                f"{Decimal(count):.4g}" if count > 1e9 else count,
                f"{100 * distribution.share(length):.4f}",
            )
            for length, count in distribution.counts.items()
        ]
        print("\n" + text_table(("length", "paths", "percent"), shares, (0, 1, 2)))
    if options.plot:
        write_picture(lambda: path_plot.draw(list(map(int, lengths))), options.plot)


def _add_verify(commands):
    parser = commands.add_parser(
        "verify",
        help="check every published number that needs no data, in under a minute; with --gpus, "
        "check that these GPUs train as the CPU does",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="compare both implementations of all networks numerically, and convert a large one; "
        "takes some minutes",
    )
    parser.add_argument(
        "--gpus",
        metavar="0-7",
        help="check these GPUs instead: arithmetic, kvstores, workers, float16, sync-bn, stop and "
        "resume, export, speed; some minutes (docs/gpus.md)",
    )
    parser.add_argument(
        "--cpus", type=int, metavar="N", help="the same checks on so many CPU contexts"
    )
    parser.add_argument("--json", action="store_true", help="print all checks as JSON")
    parser.set_defaults(function=_verify)


def _verify(options):
    if options.gpus is None and options.cpus is None:
        _verify_numbers(options)
        return
    if options.full:
        raise DMRError("--full is for the published numbers; leave out --gpus and --cpus")
    _verify_devices(options)


def _verify_devices(options):
    """Check GPUs, or what stands for them."""
    from ..device_checks.checks import FAILED, VERDICTS
    from ..device_checks.runner import check_devices
    from ..system.machine import share_cores

    cpus = 1 if options.cpus is None else options.cpus
    share_cores(cpus)
    from ..devices import make_devices

    devices = make_devices(options.gpus, cpus)
    kind, numbers = devices[0].device_type, [device.device_id for device in devices]
    checks, began = [], time.monotonic()
    out = sys.stderr if options.json else sys.stdout
    for section, found in check_devices(kind, numbers):
        print(f"{section.title}", file=out, flush=True)
        for check in found:
            checks.append({"section": section.name, **asdict(check)})
            print(f"  {check.verdict:<8} {check.what}: {check.figures}", file=out, flush=True)
            if check.advice:
                print(f"{'':11}-> {check.advice}", file=out, flush=True)
    seconds = time.monotonic() - began
    counts = {v: sum(check["verdict"] == v for check in checks) for v in VERDICTS}
    text = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    print(
        f"{len(checks)} checks of {', '.join(map(str, devices))}: {text}; {seconds:.0f} s", file=out
    )
    if options.json:
        from ..doctor import gather

        print(json.dumps({"checks": checks, "seconds": round(seconds), **gather()}, indent=1))
    if counts[FAILED]:
        sys.exit(1)


def _verify_numbers(options):
    from ..analysis import published, verify
    from ..system.text_tables import text_table

    checks, out = [], sys.stderr if options.json else sys.stdout
    header = ("", "paper", "ours", "difference", "verdict")
    for title, found in verify.sections(options.full):
        section = []
        for check in found:
            if sys.stderr.isatty():
                print(f"\r\033[K{check.what}", end="", file=sys.stderr, flush=True)
            section.append(check)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        rows = [
            (c.what, c.published, c.ours, c.difference, f"{c.verdict} {c.note}") for c in section
        ]
        print(text_table((title, *header[1:]), rows, (1, 2, 3)) + "\n", file=out, flush=True)
        checks += section
    counts = {verdict: sum(c.verdict == verdict for c in checks) for verdict in published.VERDICTS}
    if options.json:
        print(json.dumps({"checks": list(map(asdict, checks)), "notes": published.NOTES}, indent=1))
    else:
        _print_notes(published.NOTES)
    print(
        f"\n{len(checks)} checks: {counts[published.EQUAL]} equal, {counts[published.KNOWN]} known "
        f"discrepancies, {counts[published.DIFFERS]} unexplained",
        file=out,
    )
    if counts[published.DIFFERS]:
        sys.exit(1)


def _add_convert(commands):
    parser = commands.add_parser(
        "convert", help="convert a run to an equivalent form of its network (Figures 4 and 5)"
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--form", required=True, choices=("grouped", "branches"),
        help="grouped: all branches in one convolution; branches: the reverse",
    )  # fmt: skip
    parser.add_argument("--run-dir", required=True, metavar="DIR", help="the new run's folder")
    parser.set_defaults(function=_convert)


def _convert(options):
    from ..analysis.conversion import convert_run

    spec = convert_run(options.run, options.form, options.run_dir)
    print(
        f"{options.run_dir}: {spec.name}, with the parameters of {options.run}; it can be "
        f"evaluated, exported and resumed"
    )


def _add_import_authors(commands):
    parser = commands.add_parser(
        "import-authors", help="convert a checkpoint of the authors' code (2016) to a bundle"
    )
    parser.add_argument(
        "prefix", metavar="PREFIX", help="as in PREFIX-symbol.json and PREFIX-NNNN.params"
    )
    parser.add_argument("epoch", metavar="EPOCH", type=int, help="as in NNNN")
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: PREFIX-imported)")
    parser.add_argument(
        "--dataset", choices=("cifar10", "cifar100", "svhn"),
        help="its training set, for the normalisation in bundle.json",
    )  # fmt: skip
    parser.set_defaults(function=_import_authors)


def _import_authors(options):
    from ..deploy.import_authors import import_checkpoint
    from ..system.text_tables import text_table

    out = options.out or options.prefix + "-imported"
    net, mapping, difference = import_checkpoint(
        options.prefix, options.epoch, out, options.dataset
    )
    parameters, spec = net.collect_params(), net.spec
    rows = [
        (theirs, ours, "x".join(map(str, parameters[ours].shape)))
        for ours, theirs in mapping.items()
    ]
    print(text_table(("theirs", "ours", "shape"), rows))
    print(f"\n{spec.name}, {spec.classes} classes: {len(rows)} tensors, all mapped")
    if difference is None:
        print(f"no {options.prefix}-symbol.json: the predictions were not compared")
    else:
        print(f"their symbol and our network predict the same, to {difference:.1e}")
    if options.dataset is None:
        print("bundle.json has no mean and std: name the training set with --dataset")
    print(
        f"{os.path.join(out, '')}: model-symbol.json, model-0000.params, bundle.json, mapping.json"
    )
