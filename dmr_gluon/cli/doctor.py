"""``dmr doctor``: check this machine and installation, and say how to fix problems."""

import json
import sys


def add_commands(commands):
    """Add doctor to the parser of ``dmr``."""
    parser = commands.add_parser(
        "doctor",
        function=_doctor,
        help="check this machine and installation, and say how to fix problems",
        description="Check Python, packages, MXNet (which trains a step on the CPU and on every "
        "GPU), threads and prepared data sets. Exits with 1 if there is a problem.",
    )
    root = "folder of the prepared sets (default: data)"
    parser.add_argument("--data-root", default="data", help=root)
    text = "print JSON with versions, for bug reports"
    parser.add_argument("--json", action="store_true", help=text)


def _doctor(options):
    from ..doctor import OK, PROBLEM, describe, examine

    if not options.json:
        print("checking this machine; MXNet is imported and trains a step", file=sys.stderr)
    findings = examine(options.data_root)
    problems = sum(finding.level == PROBLEM for finding in findings)
    if options.json:
        print(json.dumps({**describe(), "findings": list(map(vars, findings))}, indent=1))
    else:
        for finding in findings:
            print(f"{finding.level:<8} {finding.subject:<10} {finding.text}")
            if finding.level != OK:
                print(f"{'':19} -> {finding.remedy}")
        print(f"{problems or 'no'} problem{'s' * (problems != 1)}")
    if problems:
        sys.exit(1)
