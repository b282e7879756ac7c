"""Break the code on purpose, line by line, and see whether a test notices (mutation testing).

``make mutants`` runs Cosmic Ray on copies of the repository: on each module of MODULES, with the
tests that are about it, on a random share of the possible changes. What no test noticed stands in
OUT/NAME.survivors, the scores in OUT/scores.json. ``--again`` tries what no test noticed the last
time, after tests were added: none may have been taken away, and the module may not have changed.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Lock

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
#: Modules, and the tests that are about each: those first that find most.
MODULES = {
    "models/blocks": "blocks model golden folding equivalence model_zoo",
    "models/names": "networks model",
    "datasets/records": "records data check",
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
    "training/options": "training recipes",
    "training/plan": "training resume",
    "training/setup": "training resume recipes",
    "training/step": "step training",
    "training/stopping": "training resume",
}
#: A sum that becomes a remainder or a shift is noticed by anything: it says nothing of the tests.
_CRUDE = r"core/ReplaceBinaryOperator_\w+_(Mod|Pow|RShift|LShift|BitOr|BitAnd|BitXor|FloorDiv)"
#: How long tests take when nothing is broken, by their names; each is found out once.
_BASELINES, _LOCKS = {}, defaultdict(Lock)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "modules", nargs="*", help="such as blocks or training/trainer; default: all"
    )
    parser.add_argument("--at-most", type=int, default=40, help="changes of a module (default: 40)")
    parser.add_argument("--again", action="store_true", help="those that no test noticed last time")
    parser.add_argument("--tests", nargs="+", help="such as step: these and not a module's own")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="modules at a time (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("mutants"), help="default: mutants")
    options = parser.parse_args()
    unknown = sorted(set(options.modules) - set(MODULES))
    if unknown:
        parser.error(f"there is no list of tests for {unknown[0]}; see MODULES in {__file__}")
    options.out.mkdir(parents=True, exist_ok=True)
    scores_file = options.out / "scores.json"
    scores = json.loads(scores_file.read_text()) if scores_file.exists() else {}
    with ThreadPoolExecutor(options.jobs) as pool:
        chosen = options.modules or list(MODULES)
        if options.again:
            for name in set(chosen) - set(scores):
                parser.error(f"{name} was not measured before; leave out --again")
            chosen = [name for name in chosen if scores[name]["survivors"]]
        before = scores if options.again else {}
        running = {pool.submit(measure, name, options, before.get(name)): name for name in chosen}
        for done in as_completed(running):
            scores[running[done]] = done.result()
            scores_file.write_text(json.dumps(scores, indent=1) + "\n")
    print("\n".join(table(scores)))


def measure(name, options, before=None):
    """Try changes of one module; how many there are, were tried, were noticed, and the others.

    With what was found before, only those that no test noticed then.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "repository"
        tracked = subprocess.run(
            ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        names = filter(None, tracked.stdout.split("\0"))
        for file in (name for name in names if (REPOSITORY / name).exists()):
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / file, copy / file)
        about = options.tests or MODULES[name].split()
        tests = " ".join(f"tests/test_{test}.py" for test in about)
        quiet = "-x -q -p no:cacheprovider -m 'not slow'"

        def configure(timeout):
            (copy / "cosmic-ray.toml").write_text(
                f'[cosmic-ray]\nmodule-path = "dmr_gluon/{name}.py"\ntimeout = {timeout}\n'
                f'test-command = "{sys.executable} -m pytest {quiet} {tests}"\n'
                'excluded-modules = []\n[cosmic-ray.distributor]\nname = "local"\n'
            )

        environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}

        def cosmic_ray(*arguments):
            command = [sys.executable, "-m", "cosmic_ray.cli", *arguments]
            return subprocess.Popen(command, cwd=copy, env=environment)

        together = frozenset(about)
        with _LOCKS[together]:
            if together not in _BASELINES:
                configure(timeout=3600)
                began = time.monotonic()
                if cosmic_ray("baseline", "cosmic-ray.toml").wait():
                    sys.exit(f"the tests of {name} fail without any change; mend that first")
                _BASELINES[together] = time.monotonic() - began
        # What makes the tests wait for ever is noticed when they take several times their time.
        configure(timeout=round(60 + 4 * _BASELINES[together]))
        if cosmic_ray("init", "cosmic-ray.toml", "session.sqlite").wait():
            sys.exit(f"no changes could be made to {name}")
        session = copy / "session.sqlite"
        again = before and before["survivors"]
        tried, possible = choose(session, options.at_most, options.seed, again)
        if before and tried != len(again):
            sys.exit(f"{name} has changed: leave out --again")
        running = cosmic_ray("exec", "cosmic-ray.toml", "session.sqlite")
        with tqdm(total=tried, desc=name, unit="change") as progress:
            while running.poll() is None:
                with use_db(session, WorkDB.Mode.open) as db:
                    progress.update(tried - len(db.pending_work_items) - progress.n)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(5)
        if running.returncode:
            sys.exit(f"trying the changes of {name} ended with status {running.returncode}")
        with use_db(session, WorkDB.Mode.open) as db:
            results = [
                (item.mutations[0], result)
                for item, result in db.completed_work_items
                if result.worker_outcome != WorkerOutcome.SKIPPED
            ]
    survivors = [
        (mutation, result)
        for mutation, result in results
        if result.test_outcome == TestOutcome.SURVIVED
    ]
    survivors.sort(key=lambda pair: pair[0].start_pos)
    text = "\n".join(f"{result.diff}\n" for _, result in survivors)
    (options.out / f"{name.replace('/', '.')}.survivors").write_text(text)
    earlier = before or {"tried": len(results), "noticed": 0, "too_slow": 0}
    return {
        "possible": possible,
        "tried": earlier["tried"],
        "noticed": earlier["noticed"] + len(results) - len(survivors),
        "too_slow": earlier["too_slow"] + sum(r.output == "timeout" for _, r in results),
        "survivors": [[one.operator_name, one.occurrence] for one, _ in survivors],
    }


def choose(session, at_most, seed, again=None):
    """Leave out crude changes; of the others, all but so many, or all but those of ``again``."""
    with use_db(session, WorkDB.Mode.open) as db:
        items = sorted(
            db.pending_work_items,
            key=lambda item: (
                item.mutations[0].start_pos,
                item.mutations[0].operator_name,
                item.mutations[0].occurrence,
            ),
        )
        sensible = [i for i in items if not re.match(_CRUDE, i.mutations[0].operator_name)]
        if again is None:
            chosen = random.Random(seed).sample(sensible, min(at_most, len(sensible)))
        else:
            chosen = [
                item
                for item in sensible
                if [item.mutations[0].operator_name, item.mutations[0].occurrence] in again
            ]
        kept = {item.job_id for item in chosen}
        rest = [item.job_id for item in items if item.job_id not in kept]
        db.set_multiple_results(rest, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
    return len(chosen), len(sensible)


def table(scores):
    yield "| module | possible changes | tried | noticed | of them in time-outs | score |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name in filter(scores.get, MODULES):
        score = scores[name]
        share = 100 * score["noticed"] / max(1, score["tried"])
        counts = (score[key] for key in ("possible", "tried", "noticed", "too_slow"))
        numbers = " | ".join(map(str, [*counts, f"{share:.0f}%"]))
        yield f"| `{name}` | {numbers} |"


if __name__ == "__main__":
    main()
