"""A training run on disk.

====================  ============================================================
``config.json``       the recipe, the network, the data set, the seed, the versions
``log.jsonl``         one JSON object a line, see :mod:`dmr_gluon.runs.log`
``model-symbol.json`` the network as MXNet's own symbol, without a softmax
``model-NNNN.params`` its parameters after NNNN epochs
``curve.png``         the learning curve
``checkpoints/``      what ``--resume`` continues from
``progress.json``     how far it is, while it runs
``lock``              held by the process that trains
====================  ============================================================

Nothing here needs MXNet.
"""

import contextlib
import fcntl
import glob
import json
import os
import re

from ..errors import DMRError
from ..system.files import write_atomically
from ..system.machine import lock

CONFIG_FORMAT = 1

#: Seconds in which a process that holds a run may end.
_PATIENCE = 5.0


class RunDirectory:
    """Paths and configuration of one run."""

    def __init__(self, path):
        self.path = os.fspath(path)

    def file(self, name):
        return os.path.join(self.path, name)

    @property
    def log(self):
        return self.file("log.jsonl")

    @property
    def checkpoints(self):
        return self.file("checkpoints")

    @property
    def model_prefix(self):
        """What MXNet's ``load_checkpoint(prefix, epoch)`` wants."""
        return self.file("model")

    @contextlib.contextmanager
    def lock(self):
        """Hold the run: no other process can train it meanwhile.

        The kernel lets go of it with the process, however that ends. One that is just ending,
        as when a job is started again, is waited for.

        Yields
        ------
        bool
            False where the file system has no locks, so that nothing keeps others away.

        Raises
        ------
        DMRError
            Where another process holds it, or its file is another user's.
        """
        os.makedirs(self.path, exist_ok=True)
        path = self.file("lock")
        if os.path.exists(path) and not os.access(path, os.W_OK):
            raise DMRError(
                f"{path} is another user's, who may be training {self.path}; train it as that "
                f"user, or in another --run-dir"
            )
        with open(path, "w", encoding="ascii") as file:
            locked = lock(file, _PATIENCE)
            if locked is False:
                raise DMRError(
                    f"{self.path} is being trained by another process; wait for it, or stop it "
                    f"(dmr status {self.path})"
                )
            yield locked is True

    def exists(self):
        return os.path.exists(self.file("config.json"))

    def require_empty(self):
        """Refuse a folder with files in it, which those of a new run could replace.

        Raises
        ------
        DMRError
        """
        if self.exists():
            raise DMRError(
                f"{self.path} holds a run already; continue it with --resume, or choose another "
                f"--run-dir"
            )
        ours = ("lock", "config.json.part")  # and what was killed while it began
        files = (
            os.path.join(folder, name)
            for folder, _, names in os.walk(self.path)
            for name in names
            if name not in ours
        )
        found = next(files, None)
        if found:
            raise DMRError(
                f"{self.path} is not empty ({found} is there), and a new run could replace its "
                f"files; choose another --run-dir"
            )

    def create(self, config):
        """Make the folder and write its configuration."""
        os.makedirs(self.checkpoints, exist_ok=True)
        write_atomically(
            self.file("config.json"), json.dumps({"format": CONFIG_FORMAT, **config}, indent=1)
        )

    def config(self):
        """The configuration that the run was started with.

        Raises
        ------
        DMRError
            Where there is no run, or its configuration is damaged.
        """
        path = self.file("config.json")
        try:
            with open(path, encoding="utf-8") as file:
                config = json.load(file)
        except FileNotFoundError:
            raise DMRError(
                f"{self.path} is not a run: it has no config.json; name the folder that a "
                f"training script wrote (--run-dir)"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise DMRError(f"{path} cannot be read: {error}") from error
        if not _is_whole(config) or config.get("format") != CONFIG_FORMAT:
            raise DMRError(f"{path} is damaged, or was not written by this version of dmr-gluon")
        return config

    def model_epoch(self, epoch=None):
        """The last epoch whose parameters are there; or ``epoch``, if its are.

        Raises
        ------
        DMRError
            Where no epoch has ended yet, or that one's parameters are not kept.
        """
        epochs = self.model_epochs()
        if epoch is not None and epoch not in epochs:
            raise DMRError(
                f"{self.path} has no parameters of epoch {epoch}; kept are those of "
                f"{', '.join(map(str, sorted(epochs))) or 'none'}"
            )
        if epoch is not None:
            return epoch
        if not epochs:
            raise DMRError(
                f"{self.path} has no model-NNNN.params yet: no epoch has ended; train it with "
                f"--run-dir {self.path} --resume"
            )
        return max(epochs)

    def keep_only_models(self, epochs):
        """Remove the parameters of all other epochs, and what was killed while it was written."""
        for other, path in self.model_epochs().items():
            if other not in epochs:
                os.remove(path)
        for path in glob.glob(glob.escape(self.model_prefix) + "-*.params.part"):
            os.remove(path)

    def kept(self):
        """For refusals of what else a run has lost: what can be done with what it has."""
        epochs = ", ".join(map(str, sorted(self.model_epochs())))
        use = f"; 'dmr eval' and 'dmr export' can use its models (of epoch {epochs})"
        return f"{use if epochs else ''}; to train anew, choose another --run-dir"

    def model_epochs(self):
        """Paths of the parameters that are kept, by epoch."""
        paths = glob.glob(glob.escape(self.model_prefix) + "-*.params")
        found = ((re.search(r"-(\d{4,})\.params$", path), path) for path in paths)
        return {int(match.group(1)): path for match, path in found if match}


def _is_whole(config):
    """Whether a configuration has the parts that everything needs, of the right types."""
    parts = ("recipe", "network", "dataset")
    return (
        isinstance(config, dict)
        and all(isinstance(config.get(name), dict) for name in parts)
        and isinstance(config["dataset"].get("directory"), str)
        and type(config.get("seed")) is int
        and (config.get("log_steps") is None or _is_count(config["log_steps"]))
        and all(_is_place(place) for place in (config, config.get("resumed_on", {})))
    )


def _is_count(value):
    return type(value) is int and value >= 1


def last_devices(config):
    """Where a run last went on, as far as its configuration says.

    Parameters
    ----------
    config : dict

    Returns
    -------
    dict
        ``devices`` and ``workers``.
    """
    last = config.get("resumed_on", config)
    return {name: last[name] for name in ("devices", "workers") if name in last}


def _is_place(config):
    """Whether a run can have been on such devices and workers."""
    devices = config.get("devices", ["cpu(0)"]) if isinstance(config, dict) else None
    return (
        isinstance(devices, list)
        and devices != []
        and all(re.fullmatch(r"[cg]pu\([0-9]+\)", str(name)) for name in devices)
        and type(config.get("workers", 1)) is int
    )


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
    number = 1
    while True:
        path = os.path.join(root, f"{stem}-{number:03d}")
        try:
            os.mkdir(path)
            return path
        except FileExistsError:
            number += 1


def find_runs(paths):
    """Folders of runs: those named, and all at any depth below those that are none.

    Raises
    ------
    DMRError
        For a folder that isn't there, or in which there is no run.
    """
    found = []
    for path in map(os.fspath, paths):
        if not os.path.isdir(path):
            raise DMRError(f"{path} is not a folder; name a run, or a folder that holds runs")
        runs, seen = [], set()
        for folder, below, files in os.walk(path, followlinks=True):
            place = os.path.realpath(folder)
            if place in seen:  # a link that leads back
                below.clear()
                continue
            seen.add(place)
            if "config.json" in files or "log.jsonl" in files:
                runs.append(folder)
                below.clear()  # its checkpoints are no runs
            below.sort(key=natural)
        if not runs:
            raise DMRError(
                f"there is no run in {path}; name a folder that a training has written (--run-dir)"
            )
        found += runs
    return list(dict.fromkeys(map(os.path.normpath, found)))


def is_locked(path):
    """Whether another process is training this run; None where that cannot be told."""
    try:
        with open(os.path.join(path, "lock"), "rb") as file:
            # A shared lock is refused while a training holds its exclusive one, and two that
            # only look don't get into each other's way. Closing the file gives it back.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks, or another user's file
        return None
    return False


def natural(name):
    """A key to sort names by, so that seed2 comes before seed10."""
    # Texts and numbers take turns. Of numbers, too long for int as they may be, the longer one
    # is the larger.
    parts = re.split(r"([0-9]+)", name)
    parts[1::2] = (part.lstrip("0") for part in parts[1::2])
    return [(len(part) * (i % 2), part) for i, part in enumerate(parts)]
