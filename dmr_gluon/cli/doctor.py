"""``dmr doctor``: report problems of this machine and installation, with their remedies."""

import json
import sys
from dataclasses import asdict


def add_doctor(commands):
    """Add doctor to the parser of ``dmr``."""
    parser = commands.add_parser(
        "doctor",
        help="report problems of this machine and installation, with their remedies",
        description="Check Python, packages, MXNet (which trains a step), CUDA libraries, GPUs, "
        "cores, threads, memory, disk and prepared data sets. Exit with 1 if there is a problem.",
    )
    parser.add_argument(
        "--data-root", default="data", help="folder of the prepared sets (default: data)"
    )
    parser.add_argument("--json", action="store_true", help="print all facts, for a bug report")
    parser.set_defaults(function=_doctor)


def _doctor(options):
    from ..doctor import OK, PROBLEM, WARNING, gather, judge

    if not options.json:
        print("checking this machine; MXNet is imported and trains a step", file=sys.stderr)
    facts = gather(options.data_root)
    found = judge(facts)
    problems, warnings = (
        sum(finding.level == level for finding in found) for level in (PROBLEM, WARNING)
    )
    if options.json:
        print(json.dumps({**facts, "findings": [asdict(finding) for finding in found]}, indent=1))
    else:
        for finding in found:
            print(f"{finding.level:<8} {finding.subject:<10} {finding.text}")
            if finding.level != OK:
                print(f"{'':19} -> {finding.remedy}")
        print(
            f"{problems or 'no'} problem{'s' * (problems != 1)}, {warnings or 'no'} "
            f"warning{'s' * (warnings != 1)}"
        )
    if problems:
        sys.exit(1)
