"""Command-line flags, made from the fields of recipes and run options. Needs no MXNet."""

import argparse
import dataclasses
import os
import sys
import typing

from .data.datasets import open_prepared
from .errors import DMRError
from .networks import network
from .recipes import Recipe
from .runs import RunDirectory

#: Flags that say where and how to run, with the fields of RunOptions that they set.
_RUN_FLAGS = (
    ("--seed", int, None, "decides initialisation, order and augmentation (default: 1)"),
    ("--gpus", str, None, "GPUs to train on: 0, 0-7 or 0,2,4-6; without it, the CPU"),
    ("--cpus", int, 1, "CPU contexts, to try what several GPUs do (default: 1)"),
    (
        "--kv-store",
        str,
        "device",
        "how several devices sum gradients: device (default), local, nccl",
    ),
    ("--run-dir", str, None, "folder for log, checkpoints and model; default: runs/..., numbered"),
)


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, and takes no abbreviations."""

    def __init__(self, **arguments):
        super().__init__(
            allow_abbrev=False,
            **arguments,
        )

    def error(self, message):
        raise DMRError(f"{message}; see {self.prog} --help")


def run(main):
    """Call a program's ``main`` and turn what it raises into an exit status.

    0: done; 2: something the user can mend, said in one line; 130: Ctrl-C; 141: the
    reader of the output has gone.
    """
    try:
        main()
        sys.stdout.flush()
    except DMRError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            "stopped; what was finished is kept, and a training run goes on with --resume",
            file=sys.stderr,
        )
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


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
        :class:`dmr_gluon.training.loop.RunOptions`.

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
        where.add_argument(flag, type=kind, default=default, help=text)
    where.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --run-dir, with its recipe, seed and data set",
    )
    group = parser.add_argument_group("recipe", "defaults: the paper's")
    for item in _recipe_fields():
        _add_flag(group, item, getattr(recipe, item.name))
    options = vars(parser.parse_args(arguments))
    wanted, data_dir = options.pop("dataset"), options.pop("data_dir")
    own = others or {}
    if options["resume"]:
        if not options["run_dir"]:
            raise DMRError("--resume needs the run to continue: --run-dir RUN")
        begun = RunDirectory(options["run_dir"]).config()
        recipe, own = Recipe.from_json(begun["recipe"]), {}
        data_dir = data_dir or (None if wanted else begun["dataset"]["directory"])
        options["seed"] = begun["seed"] if options["seed"] is None else options["seed"]
    options["seed"] = 1 if options["seed"] is None else options["seed"]
    if options["seed"] < 0:
        raise DMRError(f"--seed must be at least 0, not {options['seed']}")
    data_dir = data_dir or os.path.join("data", wanted or dataset)
    found = open_prepared(data_dir).name
    if wanted and wanted != found:
        raise DMRError(f"{data_dir} holds the data set {found!r}, not {wanted!r}; leave out one")
    names = [item.name for item in _recipe_fields()]
    changes = {name: options.pop(name) for name in names if name in options}
    recipe = dataclasses.replace(own.get(found, recipe), **changes)
    network(recipe.model)  # a name that does not fit is refused before MXNet is loaded
    return recipe, {"data_dir": data_dir, **options}


def _recipe_fields():
    return [item for item in dataclasses.fields(Recipe) if "help" in item.metadata]


def _add_flag(group, item, default):
    """One flag for one field; a field that is not named on the command line stays unset."""
    flag = "--" + item.name.replace("_", "-")
    text = f"{item.metadata['help']} [{item.metadata['source']}]"
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    text = f"{text} (default: {'none' if shown is None else shown})".replace("%", "%%")
    kind = typing.get_type_hints(Recipe)[item.name]
    common = {"dest": item.name, "default": argparse.SUPPRESS}
    if kind is bool:
        either = group.add_mutually_exclusive_group()
        either.add_argument(flag, action="store_true", help=text, **common)
        either.add_argument(
            "--no-" + flag[2:], action="store_false", help=f"the opposite of {flag}", **common
        )
    else:
        group.add_argument(flag, type=_reader(kind), metavar=item.name.upper(), help=text, **common)


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
