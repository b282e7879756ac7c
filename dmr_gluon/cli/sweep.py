"""Run a series of trainings one after another, each in its own process.

A crash of one training does not end the others, and MXNet's memory is freed in between. This
module is also the program of a single training::

    python -m dmr_gluon.cli.sweep DATASET [FLAGS]

It takes the flags of ``train_cifar.py`` and uses the paper's recipe for the data set. Nothing here
needs MXNet until a training starts.
"""

import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass

from ..errors import DMRError, Stopped
from ..paper.experiments import Cell, folder_of
from ..paper.recipes import OF_DATASET, Recipe
from ..runs import log as runlog
from ..runs.directory import RunDirectory
from ..runs.reader import FINISHED, RUNNING
from ..runs.status import RunStatus, read_status
from ..system.program import command as command_of
from ..system.signals import ending, handled, say
from .program import run
from .training_flags import parse_training_flags, train

_TITLE = "Run one training of dmr train."
#: Flags that a series sets itself, and what to do instead.
_OWN_FLAGS = {
    "--run-dir": "use --out",
    "--resume": "leave it out: runs that were begun are continued",
    "--model": "use --network",
    "--seed": "use --seeds and --first-seed",
    "--init-from": "the paper trains from random weights: use it with --data-dir, or with the "
    "training scripts",
    "--estimate": "give it to the training script, such as train_cifar.py",
}


def refuse_own(flags):
    """Refuse training flags that the series sets itself.

    Raises
    ------
    DMRError
        If the flags contain one of them.
    """
    for name in (flag.partition("=")[0] for flag in flags):
        if name in _OWN_FLAGS:
            raise DMRError(f"{name} is not for a series of trainings; {_OWN_FLAGS[name]}")


@dataclass(frozen=True)
class Job:
    """One training: a cell of the paper with one seed.

    Parameters
    ----------
    cell : Cell
    seed : int
    out : str
        Root of the runs, which are ``out/table2/DATASET-NETWORK-seedS``.
    data_root : str
        Root of the prepared sets, which are ``data_root/NAME``.
    """

    cell: Cell
    seed: int
    out: str
    data_root: str

    @property
    def run(self):
        """The run's RunDirectory."""
        name = f"{self.cell.dataset}-{self.cell.network}-seed{self.seed}"
        return RunDirectory(os.path.join(self.out, folder_of(self.cell), name))

    @property
    def data_dir(self):
        """Folder of the prepared data set."""
        return os.path.join(self.data_root, self.cell.dataset)

    @property
    def status(self):
        """RunStatus of the run; its state is None if the run has not begun."""
        path = self.run.path
        return read_status(path) if os.path.exists(self.run.log) else RunStatus(path, None)

    def flags(self):
        """Return the flags that identify this training on a command line."""
        return [
            *("--dataset", self.cell.dataset, "--data-dir", self.data_dir),
            *("--run-dir", self.run.path, "--model", self.cell.network, "--seed", str(self.seed)),
        ]


def check(todo, flags):
    """Check all trainings before the first one starts.

    Parameters
    ----------
    todo : list of Job
    flags : list of str
        Additional flags of the trainings.

    Raises
    ------
    DMRError
        If flags do not fit, data is not prepared, or a run was begun with other settings.
    """
    for job in todo:
        if job.status.state == FINISHED and not flags:
            continue
        recipe, _ = parse_training_flags(
            _TITLE, job.cell.recipe, job.cell.dataset, arguments=[*job.flags(), *flags]
        )
        begun = Recipe.from_json(job.run.config()["recipe"]) if job.run.exists() else recipe
        for name, old in asdict(begun).items():
            new = getattr(recipe, name)
            if new != old:
                raise DMRError(
                    f"{job.run.path} was begun with {name} {old}, not {new}; give the same flags "
                    f"as then, or another --out"
                )


def command(job, flags):
    """Return the command line (list of str) of one training."""
    return command_of("dmr_gluon.cli.sweep", job.cell.dataset, *job.flags(), *flags)


class Series:
    """A series of trainings that run one after another.

    Parameters
    ----------
    todo : list of Job
    flags : list of str
        Additional flags of the trainings.
    """

    def __init__(self, todo, flags):
        self.todo, self.flags = todo, flags
        self._child, self._signal = None, None

    def run(self):
        """Run all trainings that are not finished.

        Ctrl-C, SIGTERM and SIGHUP reach the current training as SIGTERM, so that it can save its
        state. A second Ctrl-C or SIGTERM kills it.

        Returns
        -------
        dict of Job to str
            Why trainings failed.

        Raises
        ------
        Stopped
            After a signal, when the current training has ended.
        """
        failed = {}
        with handled(self._stop):
            for i, job in enumerate(self.todo, start=1):
                print(f"run {i} of {len(self.todo)}: {job.cell.title}, seed {job.seed}", end="")
                reason = self._train(job)
                if self._signal is not None:
                    raise Stopped(
                        self._signal,
                        "stopped; finished runs are kept, and the same command continues from here",
                    )
                if reason:
                    failed[job] = reason
                    print(f"failed: {job.run.path}: {reason}", file=sys.stderr, flush=True)
        return failed

    def _train(self, job):
        """Run one training; return why it failed, or None."""
        status, path = job.status, job.run.path
        if status.state == FINISHED:
            print(f": finished already, test error {status.test_error:.2f}%", flush=True)
            return None
        if status.state == RUNNING:
            print(": skipped, as another process is training it", flush=True)
            return None
        begun = job.run.exists()
        print(f": continuing {path}" if begun else f": {path}", flush=True)
        before = _size_of(job.run.log)
        code = self._wait(job, ["--resume"] if begun else [])
        state = job.status.state
        if self._signal is not None or state == RUNNING or (code == 0 and state == FINISHED):
            return None
        reason = _reason(code)
        # A refusal says nothing about the run, and leaves its log alone.
        if code != DMRError.status or _size_of(job.run.log) != before:
            _log_failure(job.run, reason)
        return reason

    def _wait(self, job, resume):
        """Start a training and return its exit status."""
        # In its own session, so that Ctrl-C in a terminal reaches the training only through us.
        self._child = subprocess.Popen(command(job, [*resume, *self.flags]), start_new_session=True)
        if self._signal is not None:  # received while the process was being started
            self._child.terminate()
        code = self._child.wait()
        self._child = None
        return code

    def _stop(self, number, _):
        # A closed terminal may send SIGHUP twice: from its shell and from the kernel.
        again = self._signal is not None and number != signal.SIGHUP
        child, self._signal = self._child, number
        if child is None:
            return
        if again:
            child.kill()
            return
        child.terminate()
        say("\nstopping: the training saves its state; a second signal kills it", sys.stderr)


def _size_of(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def _reason(code):
    if code < 0:
        return f"the process was ended by {ending(code)}"
    if code:
        return f"exit status {code}, for the reason above"
    return "it ended before its last epoch"


def _log_failure(directory, reason):
    """Log the failure of a run, for ``dmr status``."""
    if not directory.exists():
        return
    try:
        with directory.lock():  # no other process may be training it
            # This also drops a truncated last line, so that the next event has its own line.
            if not runlog.forget_after(directory.log, sys.maxsize, keep_end=True):
                runlog.append(directory.log, "failed", reason=reason)
    except (DMRError, OSError) as error:
        print(f"{directory.log}: {error}", file=sys.stderr)


def main():
    """Run one training in this process."""
    dataset, *arguments = sys.argv[1:] or [""]
    if dataset not in OF_DATASET:
        raise DMRError(f"name a data set first, {', '.join(OF_DATASET)}, not {dataset!r}")
    train(_TITLE, OF_DATASET[dataset], dataset, arguments=arguments)


if __name__ == "__main__":
    run(main)
