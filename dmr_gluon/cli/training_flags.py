"""Generate the training scripts' flags from the fields of Recipe and RunOptions. No MXNet."""

import argparse
import dataclasses
import os
import re
import typing

from ..data.datasets import open_prepared, read_manifest
from ..errors import DMRError, flag_of
from ..models.names import read_spec
from ..paper.recipes import RECIPES, Recipe
from ..runs.directory import RunDirectory, last_devices
from ..runs.plugins import import_plugin
from ..system.machine import share_cores
from ..system.settings import settings_of
from ..system.signals import say
from ..training.options import RunOptions
from .program import Parser

#: Flags that would do nothing in an estimate.
_NOT_ESTIMATED = (
    *("run_dir", "resume", "tensorboard", "on_nan"),
    *("log_steps", "checkpoint_steps", "checkpoint_minutes"),
)


def train(description, recipe, dataset, others=None, arguments=None):
    """Train as a command line says; the parameters are those of :func:`parse_training_flags`."""
    recipe, options = parse_training_flags(description, recipe, dataset, others, arguments)

    # Imported only now, so that wrong flags are refused at once.
    from ..training.fit import fit

    fit(recipe, options)


def parse_training_flags(description, recipe, dataset, others=None, arguments=None):
    """Read a training script's command line, and open the run or data set that it names.

    Parameters
    ----------
    description : str
    recipe : Recipe
        The script's default.
    dataset : str
        The data set that is read from ``data/NAME`` when none is named.
    others : dict, optional
        Recipes of particular data sets, by name.
    arguments : list of str, optional
        Default: the process's.

    Returns
    -------
    Recipe, RunOptions

    Raises
    ------
    DMRError
        For flags or values that do not fit, or missing data.
    """
    flags = parse(description, recipe, dataset, arguments)
    recipe, options = resolve(flags, recipe, dataset, others or {})
    # All of this has to be set before MXNet is imported, which a plugin does.
    share_cores(options.contexts(recipe))
    if recipe.sync_bn:
        # SyncBatchNorm blocks an engine thread of its GPU until all GPUs arrive; a GPU has two, and
        # the BNs of parallel branches could take them in pairs that wait for each other.
        os.environ.setdefault("MXNET_GPU_WORKER_NTHREADS", "8")
    if not options.resume:  # a resumed run imports the plugin that it began with
        if options.plugin:
            import_plugin(options.plugin)
        read_spec(recipe.model)  # refuses a name that does not fit, before MXNet is loaded
    return recipe, options


def parse(description, recipe, dataset, arguments=None):
    """Parse a command line without opening any file.

    Returns
    -------
    dict
        ``dataset``, ``data_dir``, ``recipe``, and those fields of Recipe and RunOptions that were
        named.
    """
    parser = Parser(description=description)
    where = parser.add_argument_group("data and run")
    where.add_argument("--dataset", help=f"name of a prepared set (default: {dataset})")
    where.add_argument("--data-dir", help="folder of a prepared set (default: data/DATASET)")
    for item in settings_of(RunOptions):
        _add_flag(where, RunOptions, item, item.default)
    group = parser.add_argument_group("recipe", "defaults: the paper's")
    text = (
        "the paper's (default), that of the authors' code, or one for fine-tuning; the flags below "
        "change its fields"
    )
    group.add_argument("--recipe", choices=tuple(RECIPES), help=text)
    for item in settings_of(Recipe):
        _add_flag(group, Recipe, item, getattr(recipe, item.name))
    return vars(parser.parse_args(arguments))


def resolve(flags, recipe, dataset, others):
    """Open what a command line names, and complete it.

    Parameters
    ----------
    flags : dict
        The result of :func:`parse`.
    recipe, dataset, others
        As in :func:`parse_training_flags`.

    Returns
    -------
    Recipe, RunOptions
    """
    changes, options = (
        {item.name: flags[item.name] for item in settings_of(kind) if item.name in flags}
        for kind in (Recipe, RunOptions)
    )
    if "estimate" in options:
        for name in _NOT_ESTIMATED:
            if name in options:
                raise DMRError(f"--estimate leaves nothing behind; leave out {flag_of(name)}")
    data_dir, named = flags["data_dir"], flags["dataset"]
    run = RunDirectory(options["run_dir"]) if "run_dir" in options else None
    # Whether dmr launch has started this job again, which then continues.
    again = os.environ.get("DMR_ATTEMPT") not in (None, "", "0")
    restarted = again and run is not None and run.exists()
    resume = options["resume"] = "resume" in options or restarted
    if resume:
        if run is None:
            raise DMRError("--resume needs the run to continue: --run-dir RUN")
        if flags["recipe"] and not restarted:
            raise DMRError("--resume continues with the run's own recipe; leave out --recipe")
        begun = run.config()
        if restarted:  # it has begun from there already
            options.pop("init_from", None)
        recipe = Recipe.from_json(begun["recipe"])
        options = {**_options_of(begun, options), **options}
        if not (data_dir or named):
            data_dir = begun["dataset"]["directory"]
    data_dir = data_dir or os.path.join("data", named or dataset)
    options = RunOptions(data_dir=data_dir, **options)
    if read_manifest(data_dir) is None:
        from ..datasets.registry import preparing_command

        raise DMRError(
            f"no prepared data set: {data_dir} has no manifest.json; make it with "
            f"'{preparing_command(data_dir, named)}', or name the folder of another set"
        )
    found = open_prepared(data_dir).name
    if named and named != found:
        raise DMRError(f"{data_dir} holds the data set {found!r}, not {named!r}; leave out one")
    if not resume:
        recipe, choice = others.get(found, recipe), flags["recipe"]
        if choice and recipe.name not in RECIPES[choice]:
            raise DMRError(
                f"there is no recipe {choice!r} for the {recipe.name}; leave out --recipe"
            )
        recipe = RECIPES[choice][recipe.name] if choice else recipe
        if options.init_from:
            from ..runs.weights import find_weights

            weights = find_weights(options.init_from)
            changes = {**weights.changes(recipe, named=changes), **changes}
    recipe = dataclasses.replace(recipe, **changes)
    if recipe.schedule == "cosine":
        for name in sorted({"lr_drops", "lr_factor"} & set(changes)):
            raise DMRError(f"{flag_of(name)} is for --schedule steps; leave it out with a cosine")
    return recipe, options


def _options_of(begun, named):
    """Return the options that a resumed run keeps unless they are named."""
    kept = {"seed": begun["seed"], "log_steps": begun.get("log_steps")}
    if "gpus" in named or "cpus" in named:
        return kept
    devices = last_devices(begun).get("devices", ["cpu(0)"])
    if not devices[0].startswith("gpu"):
        return {**kept, "cpus": len(devices)}
    say(f"on {', '.join(devices)}, as before; --gpus or --cpus moves the run")
    return {**kept, "gpus": ",".join(re.sub("[^0-9]", "", name) for name in devices)}


def _add_flag(group, owner, item, default):
    """Add the flag of one field. It stays unset unless it is named on the command line."""
    flag, kind = flag_of(item.name), typing.get_type_hints(owner)[item.name]
    text, source = item.metadata["help"], item.metadata["source"]
    if source:
        text += f" [{source}]"
    if source or default not in (None, False):
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" (default: {'none' if shown in (None, '') else shown})"
    common = {"dest": item.name, "default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
    if kind is bool:
        either = group.add_mutually_exclusive_group()
        either.add_argument(flag, action="store_true", **common)
        if source:  # a recipe's, which may be true by default
            common["help"] = f"the opposite of {flag}"
            either.add_argument("--no-" + flag[2:], action="store_false", **common)
        return
    if "choices" in item.metadata:
        common["choices"] = item.metadata["choices"]
    else:
        common["metavar"] = item.name.upper()
    group.add_argument(flag, type=_reader(kind, item.metadata.get("word")), **common)


def _reader(kind, word=None):
    """Return a function from text to a field's type, or to a word that the field allows."""
    arguments = typing.get_args(kind)
    optional = type(None) in arguments
    if optional or word:
        kind = next(argument for argument in arguments if argument is not type(None))
    element = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None

    def read(text):
        if optional and text == "none":
            return None
        if text == word:
            return text
        if element:
            return tuple(element(part) for part in text.split(",") if part)
        return kind(text)

    name = f"{element.__name__} list" if element else kind.__name__
    read.__name__ = f"{name} or {word}" if word else name
    return read
