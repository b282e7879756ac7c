"""A series of trainings, one after another, each in a process of its own.

A crash of one doesn't end the others, and what MXNet holds of memory is freed in between.
The process of one training is this module too::

    python -m dmr_gluon.cli.sweep DATASET [FLAGS]

with the flags of ``train_cifar.py`` and its like, and the paper's recipe for that data set.
Nothing here needs MXNet until a training starts.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass

from ..data.datasets import preparing_command
from ..errors import DMRError
from ..paper.experiments import Cell, folder_of
from ..paper.recipes import OF_DATASET
from ..runs import log as runlog
from ..runs.directory import RunDirectory
from ..runs.reader import FINISHED, RUNNING
from ..runs.status import RunStatus, read_status
from ..system.program import command as command_of
from ..system.signals import handled, say
from .training_flags import parse_training_flags, run

#: Flags that a series sets itself, with what to do instead.
_OWN_FLAGS = {
    "--run-dir": "use --out",
    "--resume": "leave it out: runs that were begun are continued",
    "--model": "use --network",
    "--data-dir": "name the folder that holds the paper's sets with --data-root, or train on a set "
    "of your own with 'python train_cifar.py --data-dir DIR'",
    "--seed": "use --seeds and --first-seed",
    "--estimate": "give it to the training script, such as train_cifar.py",
}


def refuse_own(flags):
    """Refuse those of a training's flags that a series sets itself.

    Raises
    ------
    DMRError
    """
    for flag in flags:
        name = flag.partition("=")[0]
        if name in _OWN_FLAGS:
            raise DMRError(f"{name} is not for a series of trainings; {_OWN_FLAGS[name]}")


@dataclass(frozen=True)
class Job:
    """One training: a cell with one seed, and where it lies."""

    cell: Cell
    seed: int
    path: str
    data_dir: str

    @property
    def status(self):
        """How its run stands; None where it was not begun."""
        exists = RunDirectory(self.path).exists() or os.path.exists(RunDirectory(self.path).log)
        return read_status(self.path) if exists else None

    def flags(self):
        """What says which training this is, on a training's command line."""
        return [
            *("--dataset", self.cell.dataset, "--data-dir", self.data_dir),
            *("--run-dir", self.path, "--model", self.cell.network, "--seed", str(self.seed)),
        ]


def jobs(cells, seeds, out, data_root):
    """The trainings of some cells, the first seed of all of them first.

    Parameters
    ----------
    cells : list of Cell
    seeds : sequence of int
    out : str
        Their runs lie in ``out/table2/DATASET-NETWORK-seedS``.
    data_root : str
        The prepared sets lie in ``data_root/NAME``.

    Returns
    -------
    list of Job
    """
    return [
        Job(
            cell,
            seed,
            os.path.join(out, folder_of(cell), f"{cell.dataset}-{cell.network}-seed{seed}"),
            os.path.join(data_root, cell.dataset),
        )
        for seed in seeds
        for cell in cells
    ]


def check(todo, flags):
    """Refuse before anything is trained what could not be, or what would be mixed up.

    Parameters
    ----------
    todo : list of Job
    flags : list of str
        Further flags of the trainings.

    Raises
    ------
    DMRError
        For flags that do not fit, data that is not prepared, and runs that were begun with
        other settings.
    """
    refuse_own(flags)
    for job in todo:
        status = job.status
        if status and status.state == FINISHED and not flags:
            continue
        if not os.path.isdir(job.data_dir):
            raise DMRError(
                f"{job.cell.dataset} is not prepared: {job.data_dir} is not there; make it with "
                f"'{preparing_command(job.data_dir, job.cell.dataset)}', say with --data-root "
                f"where it is, or choose others with --dataset"
            )
        recipe, _ = _read_flags(job.cell.dataset, [*job.flags(), *flags])
        if status:
            _check_same(job, json.loads(json.dumps(asdict(recipe))))


def _check_same(job, recipe):
    begun = RunDirectory(job.path).config()["recipe"]
    for name, old in begun.items():
        if name in recipe and recipe[name] != old:
            raise DMRError(
                f"{job.path} was begun with {name} {old}, not {recipe[name]}; give the same flags "
                f"as then, or another --out"
            )


def command(job, flags):
    """What trains one, as the words of a command line."""
    return command_of("dmr_gluon.cli.sweep", job.cell.dataset, *job.flags(), *flags)


class Series:
    """Runs jobs one after another, and stops when the process is told to.

    Parameters
    ----------
    todo : list of Job
    flags : list of str
        Further flags of the trainings.
    """

    def __init__(self, todo, flags):
        self.todo, self.flags = todo, flags
        self._child, self._signal = None, None

    def run(self):
        """Train what is not finished.

        Ctrl-C, SIGTERM and SIGHUP are passed on as SIGTERM to the training, which may then save
        what it has; then the program exits with 128 and the signal's number. A second Ctrl-C
        or SIGTERM kills it.

        Returns
        -------
        dict of Job to str
            Why trainings failed.
        """
        failed = {}
        with handled(self._stop):
            for i, job in enumerate(self.todo, start=1):
                print(f"run {i} of {len(self.todo)}: {job.cell.title}, seed {job.seed}", end="")
                reason = self._run(job)
                if self._signal is not None:
                    say(
                        "stopped; finished runs are kept, and the same command goes on from here",
                        sys.stderr,
                    )
                    sys.exit(128 + self._signal)
                if reason:
                    failed[job] = reason
                    print(f"failed: {job.path}: {reason}", file=sys.stderr, flush=True)
        return failed

    def _run(self, job):
        """Train one; returns why it failed, or None."""
        status = job.status or RunStatus(job.path, "new")
        if status.state == FINISHED:
            print(f": finished already, test error {status.test_error:.2f}%", flush=True)
            return None
        if status.state == RUNNING:
            print(": being trained by another process; left to it", flush=True)
            return None
        begun = RunDirectory(job.path).exists()
        print(f": continuing {job.path}" if begun else f": {job.path}", flush=True)
        code = self._wait(job, ["--resume"] if begun else [])
        state = job.status.state if job.status else None
        if self._signal is not None or (code == 0 and state == FINISHED):
            return None
        if state == RUNNING:
            print(f"{job.path} was begun by another process meanwhile; left to it", flush=True)
            return None
        reason = _why(code)
        if code != DMRError.status:  # what is refused is left as it is
            _log_failure(RunDirectory(job.path), reason)
        return reason

    def _wait(self, job, resume):
        if self._signal is not None:
            return None
        # In a session of its own: a terminal's Ctrl-C reaches the training through us only.
        self._child = subprocess.Popen(command(job, [*resume, *self.flags]), start_new_session=True)
        if self._signal is not None:  # it came while the process was being started
            self._child.terminate()
        code = self._child.wait()
        self._child = None
        return code

    def _stop(self, number, _):
        # A terminal that is closed may send SIGHUP twice: its shell does, and the kernel.
        again = self._signal is not None and number != signal.SIGHUP
        child, self._signal = self._child, number
        if child is None:
            return
        if again:
            child.kill()
            return
        child.terminate()
        say("\nstopping: waiting for the training to save; once more to kill it", sys.stderr)


def _why(code):
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    if code:
        return f"exit status {code}, for the reason above"
    return "it ended before its last epoch"


def _log_failure(directory, reason):
    """Say in the run's log that it failed, so that `dmr status` knows."""
    if not directory.exists():
        return
    try:
        with directory.lock():  # so that it is nobody else's meanwhile
            # Mends a last line that was cut off, so that the next stands on a line of its own.
            if not runlog.forget_after(directory.log, sys.maxsize, keep_end=True):
                runlog.append(directory.log, "failed", reason=reason)
    except (DMRError, OSError) as error:
        print(f"{directory.log}: {error}", file=sys.stderr)


def _read_flags(dataset, arguments):
    return parse_training_flags(
        "One training of dmr train.", OF_DATASET[dataset], dataset=dataset, arguments=arguments
    )


def main():
    """Train once, in this process."""
    dataset, *arguments = sys.argv[1:] or [""]
    if dataset not in OF_DATASET:
        raise DMRError(f"name a data set first, {', '.join(OF_DATASET)}, not {dataset!r}")
    recipe, options = _read_flags(dataset, arguments)

    from ..training.trainer import RunOptions, fit

    fit(recipe, RunOptions(**options))


if __name__ == "__main__":
    run(main)
