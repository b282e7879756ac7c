"""How a recipe is run. Each field of :class:`RunOptions` with a help text is also a flag."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Union

from ..errors import DMRError
from ..paper.recipes import KVSTORES, Recipe
from ..system.cuda import parse_gpus
from ..system.machine import usable_cores
from ..system.settings import check_settings, setting

if TYPE_CHECKING:
    from ..data.reader import Reading

#: Cores from which processes read more photographs than threads, which share Python's lock.
_MANY_CORES = 6
#: Of the paper (section 4): batches of 64 on two GPUs, of 256 on eight.
IMAGES_PER_DEVICE = 32


@dataclass(frozen=True)
class RunOptions:
    """Where and how to run a recipe.

    The seed and the number of devices change the result (each device has its own BN statistics),
    and so do ``init_from``, and ``on_nan`` when it rolls back. Nothing else does.

    Parameters
    ----------
    data_dir : str or path-like
        Folder of a prepared set.
    run_dir, resume, init_from, seed, gpus, cpus, kv_store, log_steps, checkpoint_steps, \
checkpoint_minutes, reading_threads, reading_processes, keep, on_nan, plugin, tensorboard, \
estimate : optional
        As the flags of the training scripts; see ``--help``.

    Raises
    ------
    DMRError
        For a value beyond its limits.
    """

    data_dir: Union[str, "os.PathLike[str]"]
    run_dir: Union[str, "os.PathLike[str]", None] = setting(
        "folder for log, checkpoints and model; default: the next free runs/SET-MODEL-001",
        default=None,
    )
    resume: bool = setting(
        "continue the run in --run-dir, with its recipe, seed, data set and devices", default=False
    )
    init_from: Optional[str] = setting(
        "begin from trained weights: a run, a bundle, a name in the store (DMR_MODEL_STORE) or a "
        ".params file; the classifier is replaced where the classes differ",
        default=None,
    )
    seed: int = setting("seed of initialisation, shuffling and augmentation", default=1, least=0)
    gpus: Optional[str] = setting(
        "GPUs to train on: 0, 0-7 or 0,2,4-6; default: the CPU, or the devices of a resumed run",
        default=None,
    )
    cpus: Union[int, str] = setting(
        "CPU contexts, which divide batch and cores as GPUs would; auto: as many as the cores can "
        "be divided among, with at least the 32 images each that the paper's GPUs had",
        default=1,
        least=1,
        word="auto",
    )
    kv_store: str = setting(
        "how gradients are summed: device, local or nccl over the devices of this process; "
        "dist_sync over the workers that dmr launch started",
        default="device",
        choices=KVSTORES,
    )
    log_steps: Optional[int] = setting(
        "log the mean training loss and error of the epoch so far every N steps",
        default=None,
        least=1,
    )
    checkpoint_steps: Optional[int] = setting(
        "save a checkpoint every N steps within an epoch", default=None, least=1
    )
    checkpoint_minutes: float = setting(
        "minutes between checkpoints within an epoch", default=10.0, least=0
    )
    reading_threads: Optional[int] = setting(
        "threads that read and augment images; default: one per core", default=None, least=1
    )
    reading_processes: Optional[int] = setting(
        "processes that do it instead; default: one per core for photographs to train on GPUs with "
        "six cores or more, where threads would wait for each other; else 0",
        default=None,
        least=0,
    )
    keep: int = setting(
        "number of latest checkpoints to keep, in addition to the best epoch's", default=2, least=1
    )
    on_nan: str = setting(
        "when the loss is not finite: stop, or roll back to the last checkpoint and continue with "
        "another shuffle, three times at most",
        default="stop",
        choices=("stop", "rollback"),
    )
    plugin: Optional[str] = setting(
        "Python file or module that registers blocks, mappings or networks for --model",
        default=None,
    )
    tensorboard: bool = setting("write TensorBoard curves to RUN-DIR", default=False)
    estimate: bool = setting(
        "time a few steps, print how long the run would take and how large its files would be, "
        "and leave no files behind",
        default=False,
    )

    def __post_init__(self):
        check_settings(self)
        for name in ("data_dir", "run_dir"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
        if self.resume and not self.run_dir:
            raise DMRError("--resume needs the run to continue: --run-dir RUN")
        if self.resume and self.init_from:
            raise DMRError(
                "--resume continues from the run's own checkpoint; leave out --init-from"
            )
        if self.reading_threads and self.reading_processes:
            raise DMRError("--reading-threads and --reading-processes exclude each other")
        if self.gpus is not None:
            parse_gpus(self.gpus)
            if self.cpus == "auto":
                raise DMRError("give --gpus or --cpus, not both")

    def contexts(self, recipe: Recipe) -> int:
        """Return the number of CPU contexts to train a recipe on.

        With ``auto``, BN's statistics are those of the paper's devices, over 32 images or more.
        More contexts would be faster on many cores, but would change the result.

        Parameters
        ----------
        recipe : Recipe

        Returns
        -------
        int
        """
        if self.cpus != "auto":
            return int(self.cpus)
        count = os.environ.get("DMLC_NUM_WORKER", "")
        worker = os.environ.get("DMLC_ROLE") == "worker" and count.isdigit()
        workers = max(1, int(count)) if worker else 1
        images = recipe.batch_size // (recipe.accumulate * workers)
        cores = usable_cores()
        most = max(1, min(cores, images // IMAGES_PER_DEVICE))
        even = (n for n in range(1, most + 1) if images % n == 0)
        return max(even, key=lambda n: (n * (cores // n), n))  # no core idle, if possible

    def reading(self, recipe: Recipe) -> "Reading":
        """Return who reads a recipe's images.

        Parameters
        ----------
        recipe : Recipe

        Returns
        -------
        Reading
        """
        return reading_for(recipe, self.gpus, self.reading_threads, self.reading_processes)


def reading_for(recipe: Recipe, gpus: Optional[str], threads=None, processes=None) -> "Reading":
    """Return who reads a recipe's images for devices; the numbers are by default chosen.

    Parameters
    ----------
    recipe : Recipe
    gpus : str or None
        None: the CPU.
    threads, processes : int, optional

    Returns
    -------
    Reading
    """
    from ..data.reader import Reading  # loads OpenCV, which flags do not need

    cores = usable_cores()
    if processes is None:
        many = recipe.eval_short_side and gpus is not None and cores >= _MANY_CORES
        processes = cores if many and not threads else 0
    return Reading(threads, processes)
