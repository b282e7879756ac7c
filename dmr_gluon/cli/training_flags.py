"""Command-line flags, made from the fields of recipes and run options. Needs no MXNet."""

import argparse
import dataclasses
import os
import re
import sys
import time
import traceback
import typing

from ..data.datasets import open_prepared
from ..errors import DMRError, Stopped, flag_of
from ..models.names import network
from ..paper.recipes import KVSTORES, RECIPES, Recipe
from ..runs.directory import RunDirectory, place_of
from ..system.cuda import parse_gpus
from ..system.machine import share_cores
from ..system.signals import open_standard_streams, say, to_nowhere

#: About when the program began.
_BEGAN = time.monotonic()

#: Flags that say where and how to run, with the fields of RunOptions that they set.
_RUN_FLAGS = (
    ("--seed", int, None, "decides initialisation, order and augmentation (default: 1)"),
    (
        "--gpus",
        str,
        None,
        "GPUs to train on: 0, 0-7 or 0,2,4-6; without it, the CPU, or what a resumed run was on",
    ),
    ("--cpus", int, None, "CPU contexts, which divide batch and cores as GPUs would (default: 1)"),
    (
        "--kv-store",
        str,
        "device",
        "how gradients are summed: device (default), local or nccl over the devices of this "
        "process; dist_sync over the workers that dmr launch started",
    ),
    ("--run-dir", str, None, "folder for log, checkpoints and model; default: runs/..., numbered"),
    (
        "--log-steps",
        int,
        None,
        "log training loss and error since the epoch's beginning after every so many steps "
        "(default: never, or as a resumed run)",
    ),
    ("--checkpoint-steps", int, None, "save within an epoch after so many steps (default: never)"),
    ("--checkpoint-minutes", float, 10.0, "save within an epoch after so long (default: 10)"),
    ("--reading-threads", int, None, "that read and augment images (default: one for each core)"),
    (
        "--cudnn-autotune",
        int,
        None,
        "how cuDNN's algorithms are chosen: 1 the fastest, whatever memory it takes (MXNet's "
        "default); 2 the fastest within 1 GB of workspace; 0 untried, within that too",
    ),
    ("--keep", int, 2, "last checkpoints to keep, beside the best epoch's (default: 2)"),
)

#: What some of them must be one of, or at least.
_CHOICES = {"--kv-store": KVSTORES, "--cudnn-autotune": (0, 1, 2)}
_LEAST = dict.fromkeys(("cpus", "log_steps", "checkpoint_steps", "keep", "reading_threads"), 1)
_LEAST["checkpoint_minutes"] = 0

#: What would do nothing in an estimate.
_NOT_ESTIMATED = (
    *("run_dir", "resume", "tensorboard", "on_nan"),
    *("log_steps", "checkpoint_steps", "checkpoint_minutes"),
)


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, and takes no abbreviations.

    ``add_later`` is called with the parser before it parses for the first time, for arguments that
    take long to import.
    """

    def __init__(self, add_later=None, **arguments):
        self._add_later = add_later
        super().__init__(
            allow_abbrev=False,
            **arguments,
        )

    def parse_known_args(self, args=None, namespace=None):
        add_later, self._add_later = self._add_later, None
        if add_later:
            add_later(self)
        return super().parse_known_args(args, namespace)

    def error(self, message):
        raise DMRError(f"{message}; see {self.prog} --help")


def run(main):
    """Call a program's ``main`` and turn what it raises into an exit status.

    0: done; 2: what is refused, said in one line; 1: what ended a training otherwise, in one
    line too, or a defect; 130: Ctrl-C; 143: SIGTERM; 129: SIGHUP; 141: the reader of the output
    has gone.
    """
    open_standard_streams()
    if hasattr(sys.stdout, "reconfigure"):  # not where it was replaced
        # A path may have bytes that are not UTF-8, and a terminal no UTF-8 at all.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()
    except DMRError as error:
        say(f"error: {error}", sys.stderr)
        _leave(error.status)
    except Stopped as stopped:
        say(stopped, sys.stderr)
        sys.exit(128 + stopped.signal)
    except KeyboardInterrupt:
        print(
            "stopped; what was finished is kept: give the same command again (for a training run "
            "with --resume)",
            file=sys.stderr,
        )
        _leave(130)
    except BrokenPipeError:
        to_nowhere(sys.stdout)
        _leave(141)
    except Exception:
        if os.environ.get("DMLC_ROLE") != "worker":
            raise
        traceback.print_exc()
        _leave(1)


def _leave(status):
    """End with a status; a worker of a job at once.

    At the usual end MXNet would wait there for the other workers, who wait for this one.
    """
    if os.environ.get("DMLC_ROLE") == "worker":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def parse_training_flags(description, recipe, dataset, others=None, arguments=None):
    """Read a training script's command line.

    Parameters
    ----------
    description : str
    recipe : Recipe
        The script's own.
    dataset : str
        The data set that is read from ``data/NAME`` when none is named.
    others : dict, optional
        Recipes of particular data sets, by name.
    arguments : list of str, optional
        Default: the process's.

    Returns
    -------
    Recipe, dict
        The recipe with the changes that the flags make, and the arguments of
        :class:`dmr_gluon.training.trainer.RunOptions`.

    Raises
    ------
    DMRError
        For flags or values that do not fit, or missing data.
    """
    parser = Parser(description=description)
    where = parser.add_argument_group("data and run")
    where.add_argument(
        "--dataset", help=f"a prepared set: data/NAME, or what --data-dir holds ({dataset})"
    )
    where.add_argument("--data-dir", help="folder of a prepared set (default: data/DATASET)")
    for flag, kind, default, text in _RUN_FLAGS:
        choices = _CHOICES.get(flag)
        where.add_argument(flag, type=kind, default=default, choices=choices, help=text)
    where.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --run-dir, with its recipe, seed, data set and devices",
    )
    where.add_argument(
        "--on-nan",
        choices=("stop", "rollback"),
        default="stop",
        help="a loss that is not finite: stop (default), or go back to the last checkpoint and on "
        "in another order, three times at most",
    )
    where.add_argument(
        "--tensorboard", action="store_true", help="write the curves for TensorBoard, in RUN-DIR"
    )
    where.add_argument(
        "--estimate",
        action="store_true",
        help="time a few steps, say how long the run would take and how large its files would be, "
        "and leave nothing behind",
    )
    group = parser.add_argument_group("recipe", "defaults: the paper's")
    group.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        help="the paper's (default), or that of its authors' code; the flags below change it",
    )
    for item in _recipe_fields():
        _add_flag(group, item, getattr(recipe, item.name))
    options = vars(parser.parse_args(arguments))
    wanted, data_dir = options.pop("dataset"), options.pop("data_dir")
    choice = options.pop("recipe")
    own = others or {}
    # A job that dmr launch starts again goes on by itself.
    attempt = os.environ.get("DMR_ATTEMPT") or "0"
    if not re.fullmatch("[0-9]{1,9}", attempt):
        raise DMRError(f"DMR_ATTEMPT is {attempt!r} and must be a number; unset it")
    again = int(attempt) > 0 and options["run_dir"]
    if again and RunDirectory(options["run_dir"]).exists():
        options["resume"] = True
    if options["estimate"]:
        for name in _NOT_ESTIMATED:
            if options[name] != parser.get_default(name):
                raise DMRError(f"--estimate leaves nothing behind; leave out {flag_of(name)}")
    if options["resume"]:
        if not options["run_dir"]:
            raise DMRError("--resume needs the run to continue: --run-dir RUN")
        if choice and not again:
            raise DMRError("--resume goes on with the run's own recipe; leave out --recipe")
        begun = RunDirectory(options["run_dir"]).config()
        recipe, own = Recipe.from_json(begun["recipe"]), {}
        data_dir = data_dir or (None if wanted else begun["dataset"]["directory"])
        options["seed"] = begun["seed"] if options["seed"] is None else options["seed"]
        if options["log_steps"] is None:
            options["log_steps"] = begun.get("log_steps")
        if options["gpus"] is None and options["cpus"] is None:
            options.update(_devices_of(begun))
    options["cpus"] = 1 if options["cpus"] is None else options["cpus"]
    options["seed"] = 1 if options["seed"] is None else options["seed"]
    if options["seed"] < 0:
        raise DMRError(f"--seed must be at least 0, not {options['seed']}")
    for name, least in _LEAST.items():
        if options[name] is not None and not options[name] >= least:
            raise DMRError(f"{flag_of(name)} must be at least {least}, not {options[name]}")
    if options["gpus"] is not None:
        parse_gpus(options["gpus"])
    data_dir = data_dir or os.path.join("data", wanted or dataset)
    found = open_prepared(data_dir, wanted).name
    if wanted and wanted != found:
        raise DMRError(f"{data_dir} holds the data set {found!r}, not {wanted!r}; leave out one")
    names = [item.name for item in _recipe_fields()]
    changes = {name: options.pop(name) for name in names if name in options}
    recipe = own.get(found, recipe)
    if not options["resume"]:
        recipe = _chosen(recipe, choice or "paper")
    recipe = dataclasses.replace(recipe, **changes)
    unused = {"lr_drops", "lr_factor"} & set(changes) if recipe.schedule == "cosine" else ()
    for name in sorted(unused):
        raise DMRError(f"{flag_of(name)} is for --schedule steps; leave it out with a cosine")
    share_cores(options["cpus"])
    if recipe.sync_bn:
        # Before MXNet is imported. SyncBatchNorm holds a worker thread of its GPU until all GPUs
        # are there; a GPU has two, and the BNs of parallel branches could take them in pairs that
        # wait for each other.
        os.environ.setdefault("MXNET_GPU_WORKER_NTHREADS", "8")
    network(recipe.model)  # a name that does not fit is refused before MXNet is loaded
    return recipe, {"data_dir": data_dir, "began": _BEGAN, **options}


def _devices_of(begun):
    """The flags for the devices that a run was on when it last went on."""
    devices = place_of(begun).get("devices", ["cpu(0)"])
    if devices[0].startswith("gpu"):
        say(f"on {', '.join(devices)}, as before; --gpus or --cpus moves the run")
        return {"gpus": ",".join(re.sub("[^0-9]", "", name) for name in devices)}
    return {"cpus": len(devices)}


def _chosen(recipe, choice):
    """The recipe for the same data that ``--recipe`` names."""
    if recipe.name not in RECIPES[choice]:
        raise DMRError(f"there is no recipe {choice!r} for the {recipe.name}; leave out --recipe")
    return RECIPES[choice][recipe.name]


def _recipe_fields():
    return [item for item in dataclasses.fields(Recipe) if "help" in item.metadata]


def _add_flag(group, item, default):
    """One flag for one field; a field that is not named on the command line stays unset."""
    flag = flag_of(item.name)
    text = f"{item.metadata['help']} [{item.metadata['source']}]"
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    text = f"{text} (default: {'none' if shown is None else shown})".replace("%", "%%")
    kind = typing.get_type_hints(Recipe)[item.name]
    common = {"dest": item.name, "default": argparse.SUPPRESS}
    if "choices" in item.metadata:
        common["choices"] = item.metadata["choices"]
    if kind is bool:
        either = group.add_mutually_exclusive_group()
        either.add_argument(flag, action="store_true", help=text, **common)
        either.add_argument(
            "--no-" + flag[2:], action="store_false", help=f"the opposite of {flag}", **common
        )
    else:
        if "choices" not in common:
            common["metavar"] = item.name.upper()
        group.add_argument(flag, type=_reader(kind), help=text, **common)


def _reader(kind):
    """A function from text to a field's type."""
    arguments = typing.get_args(kind)
    optional = type(None) in arguments
    if optional:
        kind = next(argument for argument in arguments if argument is not type(None))
    element = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None

    def read(text):
        if optional and text == "none":
            return None
        if element:
            return tuple(element(part) for part in text.split(",") if part)
        return kind(text)

    read.__name__ = f"{element.__name__} list" if element else kind.__name__
    return read


def add_epoch(parser):
    """The flag that chooses among a run's kept networks."""
    parser.add_argument(
        "--epoch",
        type=int,
        help="which epoch's network: the last one (default) and the best one are kept",
    )
