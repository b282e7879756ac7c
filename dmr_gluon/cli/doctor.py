"""``dmr doctor``: what is wrong with this machine and this installation, and what mends it."""

import json
import sys
from dataclasses import asdict

from ..errors import DMRError


def add_doctor(commands):
    """Add doctor to the parser of ``dmr``."""
    parser = commands.add_parser(
        "doctor",
        help="what stands in the way here, and what mends it",
        description="Looks at Python, packages, MXNet (which trains a step), CUDA's libraries, "
        "GPUs, cores, threads, memory, disk and prepared sets. Ends with 1 where there is a "
        "problem.",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="what a training needs beside that: cifar10, cifar100, svhn, imagenet or digits",
    )
    parser.add_argument("--model", metavar="NAME", help="its network (default: the recipe's)")
    parser.add_argument("--batch-size", type=int, help="its images a step (default: the recipe's)")
    parser.add_argument(
        "--data-root", default="data", help="folder of the prepared sets (default: data)"
    )
    parser.add_argument("--json", action="store_true", help="all facts, for a bug report")
    parser.set_defaults(function=_doctor)


def _doctor(options):
    from ..doctor.facts import gather
    from ..doctor.findings import OK, PROBLEM, WARNING, judge
    from ..doctor.needs import Needs

    if options.recipe is None and (options.model or options.batch_size is not None):
        raise DMRError("--model and --batch-size are a training's; name it with --recipe")
    if options.batch_size is not None and options.batch_size < 1:
        raise DMRError(f"--batch-size must be at least 1, not {options.batch_size}")
    needs = options.recipe and Needs(options.recipe, options.model, options.batch_size)
    if not options.json:
        print("looking at this machine; MXNet is imported and trains a step", file=sys.stderr)
    sizes = (needs.model, needs.image_size) if needs else ()
    facts = gather(options.data_root, *sizes)
    found = [*judge(facts), *(needs.judge(facts) if needs else ())]
    problems = sum(finding.level == PROBLEM for finding in found)
    if options.json:
        print(json.dumps({**facts, "findings": [asdict(finding) for finding in found]}, indent=1))
    else:
        for finding in found:
            print(f"{finding.level:<8} {finding.subject:<10} {finding.text}")
            if finding.level != OK:
                print(f"{'':19} -> {finding.mend}")
        warnings = sum(finding.level == WARNING for finding in found)
        print(
            f"{problems or 'no'} problem{'s' * (problems != 1)}, {warnings or 'no'} "
            f"warning{'s' * (warnings != 1)}"
        )
    if problems:
        sys.exit(1)
