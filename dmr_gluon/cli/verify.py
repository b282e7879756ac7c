"""The subcommand ``dmr verify``: check the published numbers, or GPUs."""

import contextlib
import json
import os
import sys
import time
from collections import Counter
from dataclasses import asdict
from textwrap import fill

from ..errors import DMRError
from ..system.settings import number


def add_commands(commands):
    """Add verify to the parser of ``dmr``."""
    parser = commands.add_parser(
        "verify",
        function=_verify,
        help="check every published number that needs no data, in under a minute; with --gpus, "
        "check that these GPUs train as the CPU does",
    )
    full = "compare all networks numerically, and convert a large one; takes a few minutes"
    parser.add_argument("--full", action="store_true", help=full)
    gpus = "check these GPUs instead; takes a few minutes (docs/gpus.md)"
    parser.add_argument("--gpus", metavar="0-7", help=gpus)
    cpus = "the same checks on N CPU contexts"
    parser.add_argument("--cpus", type=number(int, 1), metavar="N", help=cpus)
    parser.add_argument("--json", action="store_true", help="print all checks as JSON")


def _verify(options):
    if options.full and not (options.gpus is None and options.cpus is None):
        raise DMRError("--full is for the published numbers; leave out --gpus and --cpus")
    # With --json, stdout has nothing else.
    with contextlib.redirect_stdout(sys.stderr if options.json else sys.stdout):
        if options.gpus is None and options.cpus is None:
            result, failed = _verify_numbers(options.full)
        else:
            result, failed = _verify_devices(options.gpus, options.cpus)
    if options.json:
        print(json.dumps(result, indent=1))
    if failed:
        sys.exit(1)


def _verify_numbers(full):
    """Check the published numbers; return what ``--json`` prints, and the number of failures."""
    if not full:  # these networks are so small that further threads would mostly wait
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    from ..analysis.published import DIFFERS, EQUAL, KNOWN, NOTES
    from ..analysis.verify import sections
    from ..system.text_tables import text_table

    checks = []
    for title, found in sections(full):
        section = list(found)
        rows = [
            (c.what, c.published, c.ours, c.difference, f"{c.verdict} {c.note}") for c in section
        ]
        header = (title, "paper", "ours", "difference", "verdict")
        print(text_table(header, rows, (1, 2, 3)) + "\n", flush=True)
        checks += section
    print_notes(NOTES)
    counts = Counter(check.verdict for check in checks)
    print(
        f"\n{len(checks)} checks: {counts[EQUAL]} equal, {counts[KNOWN]} known discrepancies, "
        f"{counts[DIFFERS]} unexplained"
    )
    return {"checks": list(map(asdict, checks)), "notes": NOTES}, counts[DIFFERS]


def print_notes(letters):
    """Print the notes on discrepancies with these letters."""
    from ..analysis.published import NOTES

    for letter in sorted(letters):
        print(fill(NOTES[letter], 96, initial_indent=f"{letter}  ", subsequent_indent="   "))


def _verify_devices(gpus, cpus):
    """Check GPUs or CPU contexts; return what ``--json`` prints, and the number of failures."""
    from ..system.machine import share_cores

    cpus = 1 if cpus is None else cpus
    share_cores(cpus)  # before MXNet is imported
    from ..device_checks.checks import FAILED
    from ..device_checks.runner import check_devices
    from ..devices import make_devices
    from ..doctor import describe

    devices = make_devices(gpus, cpus)
    numbers = [device.device_id for device in devices]
    checks, began = [], time.monotonic()
    for section, found in check_devices(devices[0].device_type, numbers):
        print(section.title, flush=True)
        for check in found:
            checks.append({"section": section.name, **asdict(check)})
            print(f"  {check.verdict:<8} {check.what}: {check.figures}", flush=True)
            if check.advice:
                print(f"{'':11}-> {check.advice}", flush=True)
    seconds = round(time.monotonic() - began)
    counts = Counter(check["verdict"] for check in checks)
    text = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    print(f"{len(checks)} checks of {', '.join(map(str, devices))}: {text}; {seconds} s")
    return {"checks": checks, "seconds": seconds, **describe()}, counts[FAILED]
