"""A training run on disk. Needs no MXNet.

====================  ============================================================
``config.json``       recipe, network, data set, seed, versions
``log.jsonl``         one JSON object per line, see :mod:`dmr_gluon.runs.log`
``model-symbol.json`` the network as an MXNet symbol, without a softmax
``model-NNNN.params`` its parameters after NNNN epochs
``curve.png``         the learning curve
``checkpoints/``      what ``--resume`` continues from
``progress.json``     progress, while the run is running
``lock``              locked by the training process
====================  ============================================================
"""

import contextlib
import fcntl
import glob
import itertools
import json
import os
import re

from ..errors import DMRError
from ..system.files import write_atomically
from ..system.machine import lock

CONFIG_FORMAT = 1

#: Seconds to wait for a process that may be about to release a run.
_PATIENCE = 5.0


class RunDirectory:
    """Paths and configuration of one run.

    Parameters
    ----------
    path : str or path-like

    Attributes
    ----------
    path, log, checkpoints : str
        The folder, its log, and the folder of its checkpoints.
    model_prefix : str
        For MXNet's ``load_checkpoint(prefix, epoch)``.
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        self.log = self.file("log.jsonl")
        self.checkpoints = self.file("checkpoints")
        self.model_prefix = self.file("model")

    def file(self, name):
        """Return the path of a file in the folder."""
        return os.path.join(self.path, name)

    @contextlib.contextmanager
    def lock(self):
        """Keep other processes from training the run.

        The kernel releases the lock when the process ends. When a job is restarted, its
        predecessor may still be ending, so wait for it a few seconds.

        Yields
        ------
        bool
            False if the file system has no locks and nothing keeps others away.

        Raises
        ------
        DMRError
            If another process is training the run.
        """
        os.makedirs(self.path, exist_ok=True)
        with open(self.file("lock"), "w", encoding="ascii") as file:
            locked = lock(file, _PATIENCE)
            if locked is False:
                raise DMRError(
                    f"{self.path} is being trained by another process; wait for it, or stop it "
                    f"(dmr status {self.path})"
                )
            yield locked is True

    def exists(self):
        """Return whether the folder holds a run."""
        return os.path.exists(self.file("config.json"))

    def require_empty(self):
        """Refuse a folder with files, which a new run might overwrite.

        Raises
        ------
        DMRError
        """
        for folder, _, names in os.walk(self.path):
            others = set(names) - {"lock", "config.json.part"}  # a killed start leaves these
            if others:
                raise DMRError(
                    f"{self.path} is not empty ({os.path.join(folder, min(others))} is there); "
                    f"continue a run with --resume, or choose another --run-dir"
                )

    def create(self, config):
        """Make the folder and write its configuration."""
        os.makedirs(self.checkpoints, exist_ok=True)
        write_atomically(
            self.file("config.json"), json.dumps({"format": CONFIG_FORMAT, **config}, indent=1)
        )

    def config(self):
        """Read the configuration that the run was started with.

        Returns
        -------
        dict

        Raises
        ------
        DMRError
            If there is no run, or its configuration is damaged.
        """
        path = self.file("config.json")
        try:
            with open(path, encoding="utf-8") as file:
                config = json.load(file)
        except (FileNotFoundError, NotADirectoryError):
            raise DMRError(
                f"{self.path} is not a run: it has no config.json; name the folder that a "
                f"training script wrote (--run-dir)"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise DMRError(f"{path} cannot be read: {error}") from error
        if not _is_whole(config):
            raise DMRError(f"{path} is damaged, or was not written by this version of dmr-gluon")
        return config

    def model_epoch(self, epoch=None):
        """Return the last epoch with saved parameters, or ``epoch`` if it has them.

        Raises
        ------
        DMRError
            If no epoch has been completed, or the parameters of ``epoch`` were not kept.
        """
        epochs = self.model_epochs()
        if not epochs:
            raise DMRError(
                f"{self.path} has no model-NNNN.params: no epoch has ended yet; train it with "
                f"--run-dir {self.path} --resume"
            )
        if epoch is not None and epoch not in epochs:
            raise DMRError(
                f"{self.path} has no parameters of epoch {epoch}; kept are those of "
                f"{', '.join(map(str, sorted(epochs)))}"
            )
        return max(epochs) if epoch is None else epoch

    def keep_only_models(self, epochs):
        """Remove the parameters of all other epochs, and partly written files."""
        for other, path in self.model_epochs().items():
            if other not in epochs:
                os.remove(path)
        for path in glob.glob(glob.escape(self.model_prefix) + "-*.params.part"):
            os.remove(path)

    def kept(self):
        """Say in a refusal what can be done with the models of a run that cannot be resumed."""
        epochs = ", ".join(map(str, sorted(self.model_epochs())))
        use = f"; 'dmr eval' and 'dmr export' can use its models (of epoch {epochs})"
        return f"{use if epochs else ''}; to train anew, choose another --run-dir"

    def model_epochs(self):
        """Return the paths of the saved parameters by epoch."""
        paths = glob.glob(glob.escape(self.model_prefix) + "-*.params")
        found = ((re.search(r"-(\d{4,})\.params$", path), path) for path in paths)
        return {int(match.group(1)): path for match, path in found if match}


def _is_whole(config):
    parts = {"recipe": dict, "network": dict, "dataset": dict, "seed": int}
    return (
        isinstance(config, dict)
        and config.get("format") == CONFIG_FORMAT
        and all(type(config.get(name)) is kind for name, kind in parts.items())
        and isinstance(config["dataset"].get("directory"), str)
    )


def last_devices(config):
    """Return the ``devices`` and ``workers`` of a run's latest start or resume.

    Parameters
    ----------
    config : dict

    Returns
    -------
    dict
    """
    last = config.get("resumed_on", config)
    return {name: last[name] for name in ("devices", "workers") if name in last}


def claim_run_directory(root, stem):
    """Make the first of ``root/stem-001``, ``-002``, ... that does not exist.

    Parameters
    ----------
    root, stem : str

    Returns
    -------
    str
        Its path.
    """
    os.makedirs(root, exist_ok=True)
    numbers = itertools.count(1)
    while True:
        path = os.path.join(root, f"{stem}-{next(numbers):03d}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            return path


def find_runs(paths):
    """Find runs at any depth below some folders, which may be runs themselves.

    Parameters
    ----------
    paths : sequence of str

    Returns
    -------
    list of str

    Raises
    ------
    DMRError
        If there is no run below one of the folders.
    """
    found = {}
    for path in map(os.fspath, paths):
        runs = list(_runs_below(path))
        if not runs:
            raise DMRError(
                f"there is no run in {path}; name a folder that a training has written (--run-dir)"
            )
        found.update(dict.fromkeys(map(os.path.normpath, runs)))
    return list(found)


def _runs_below(path):
    seen = set()
    for folder, below, files in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back
            below.clear()
        elif "config.json" in files or "log.jsonl" in files:
            below.clear()
            yield folder
        seen.add(real)
        below.sort(key=natural)


def is_locked(path):
    """Return whether another process is training a run, as far as its lock can be read."""
    # A shared lock conflicts with a training's exclusive one, but not with other readers'.
    try:
        with open(os.path.join(path, "lock"), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def natural(name):
    """Return a sort key that puts seed2 before seed10."""
    parts = enumerate(re.split(r"([0-9]+)", name))  # texts and numbers alternate
    return [int(part) if i % 2 else part for i, part in parts]
