"""Mutation testing: change one line at a time and see whether a test notices.

``make mutants`` runs Cosmic Ray on a clone of the last commit: a random sample of the possible
mutations of each module in MODULES, each with the tests about that module. It prints the diff of
every survivor as it is found, and at the end a table.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
#: Modules and the tests about each, those first that find most.
MODULES = {
    "models/blocks": "blocks model golden folding equivalence model_zoo",
    "models/names": "networks model",
    "datasets/writer": "records data check",
    "training/flat_parameters": "step training",
    "training/checkpoint": "resume training",
    "devices": "training",
    "training/distributed": "distributed",
    "training/epoch": "training resume",
    "training/evaluate": "training distributed",
    "training/checkpointer": "resume training distributed",
    "training/progress": "training resume status",
    "training/trainer": "training resume",
    "training/optimizer": "optimizer step training",
    "training/state": "resume training",
    "training/plan": "training resume",
    "training/setup": "training resume recipes",
    "training/step": "step training",
    "training/stopping": "training resume",
}
#: Any test notices a sum that becomes a remainder or a shift: it says nothing about the tests.
_CRUDE = r"core/ReplaceBinaryOperator_\w+_(Mod|Pow|RShift|LShift|BitOr|BitAnd|BitXor|FloorDiv)"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", choices=[*MODULES, []], metavar="MODULE", help="all")
    parser.add_argument("--sample", type=int, default=20, help="mutations of a module (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default 1)")
    parser.add_argument("--jobs", type=int, default=2, help="modules at a time (default 2)")
    options = parser.parse_args()
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(lambda name: measure(name, options), options.modules or MODULES))
    print("| module | possible mutations | tried | noticed | of them by time-out |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        print("| `{}` | {:,} | {} | {} | {} |".format(*row))


def measure(name, options):
    """Return a module's name and the numbers of its mutations: possible, tried, noticed, slow."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", REPOSITORY, clone], check=True)
        tests = " ".join(f"tests/test_{test}.py" for test in MODULES[name].split())
        variables = f"PYTHONPATH={clone} OMP_NUM_THREADS=1"
        pytest = f"{sys.executable} -m pytest -x -q -p no:cacheprovider -m 'not slow'"
        command = f"env -C {clone} {variables} {pytest} {tests}"
        began = time.monotonic()
        if subprocess.run(command, shell=True, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"the tests of {name} fail without any mutation")
        # A mutation that makes a program wait forever counts as noticed.
        timeout = 60 + 4 * (time.monotonic() - began)
        with use_db(str(Path(folder) / "session.sqlite"), WorkDB.Mode.create) as database:
            init([clone / "dmr_gluon" / f"{name}.py"], database, {})
            possible = [item.mutations[0] for item in database.pending_work_items]
        possible = [one for one in possible if not re.match(_CRUDE, one.operator_name)]
        possible.sort(key=lambda one: (one.start_pos, one.operator_name, one.occurrence))
        sample = random.Random(options.seed).sample(possible, min(options.sample, len(possible)))
        noticed = slow = 0
        for mutation in tqdm(sample, desc=name, unit="mutation"):
            result = mutate_and_test([mutation], command, timeout)
            noticed += result.is_killed
            slow += result.output == "timeout"
            if not result.is_killed:
                tqdm.write(result.diff, file=sys.stdout)
    return name, len(possible), len(sample), noticed, slow


if __name__ == "__main__":
    main()
