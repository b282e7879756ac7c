"""The subcommand ``dmr eval``: evaluate a run or a bundle, and look at its errors."""

from dataclasses import replace

from ..errors import DMRError, last_line
from ..system.machine import share_cores, usable_cores
from ..system.settings import number
from .program import add_epoch, add_plugin

#: Of inference. More threads in one context gain little (docs/performance.md, "Many cores").
CORES_PER_CONTEXT = 8
#: Of each batch at least; with fewer images, a context spends its time between operators.
IMAGES_PER_CONTEXT = 64


def add_commands(commands):
    """Add eval to the parser of ``dmr``."""
    text = "evaluate the network of a run or a bundle, and look at its errors"
    parser = commands.add_parser("eval", function=_eval, help=text)
    parser.set_defaults(prepare=_share_cores)
    named = "folder of a run or a bundle, or a network's name in the store of DMR_MODEL_STORE"
    parser.add_argument("run", metavar="RUN", help=named)
    parser.add_argument("--data-dir", help="folder of the prepared set (default: that of the run)")
    splits = "test (default), train, or validation (SVHN only)"
    parser.add_argument("--split", default="test", help=splits)
    add_epoch(parser)
    add_plugin(parser)
    parser.add_argument("--form", default="plain", help="form of the bundle (default: plain)")
    parser.add_argument("--gpus", help="GPUs to use: 0, 0-7 or 0,2,4-6 (default: the CPU)")
    cpus = "CPU contexts that share a run's images (default: one per eight cores)"
    parser.add_argument("--cpus", type=number(int, 1), metavar="N", help=cpus)
    out = parser.add_argument_group("errors")
    out.add_argument("--per-class", action="store_true", help="list the errors of each class")
    confusion = "draw the confusion matrix (.png, .svg, .pdf), and write it as .csv beside it"
    out.add_argument("--confusion", metavar="FILE", help=confusion)
    wrong = "write a picture of the most confident mistakes, and a list of all (.csv)"
    out.add_argument("--wrong", metavar="DIR", help=wrong)


def _share_cores(options):
    """Choose the number of CPU contexts, and let them share the cores."""
    from ..runs.bundles import named_bundle

    options.bundle = named_bundle(options.run)
    if options.bundle is None and options.gpus is None:
        options.cpus = options.cpus or max(1, usable_cores() // CORES_PER_CONTEXT)
        share_cores(options.cpus)


def _eval(options):
    if options.bundle is not None:
        _evaluate_bundle(options)
    else:
        _evaluate_run(options)


def _evaluate_run(options):
    from ..paper.recipes import Recipe
    from ..runs.directory import RunDirectory

    if options.form != "plain":
        raise DMRError("--form is for bundles; leave it out")
    run = RunDirectory(options.run)
    config = run.config()  # refuses what is not a run, before MXNet is loaded
    recipe = Recipe.from_json(config["recipe"])

    from ..data.datasets import open_as_trained
    from ..devices import make_devices
    from ..runs.trained_network import load_run
    from ..training.evaluate import check_with_log

    devices = make_devices(options.gpus, options.cpus or 1)
    if options.gpus is None:
        batch = max(recipe.batch_size, IMAGES_PER_CONTEXT * len(devices))
        recipe = replace(recipe, batch_size=batch)
    prepared = open_as_trained(config["dataset"], options.data_dir)
    epoch = run.model_epoch(options.epoch)  # read once: training may go on
    result = _evaluate(lambda: load_run(run, devices, epoch), prepared, recipe, devices, options)
    images = {name: split.sha256 for name, split in prepared.splits.items()}
    if options.split == "test" and images == config["dataset"].get("sha256"):
        note = check_with_log(result, run, epoch)
        if note:
            print(f"note: {note}")


def _evaluate_bundle(options):
    if options.epoch is not None:
        raise DMRError("--epoch is for runs; a bundle has one epoch's network; leave it out")
    if options.cpus:
        raise DMRError("--cpus is for runs; a bundle computes on all cores at once; leave it out")
    if options.data_dir is None:
        raise DMRError("a bundle does not name its data; add --data-dir")

    from ..data.datasets import open_prepared
    from ..deploy.load import as_trained, load_bundle
    from ..devices import make_devices

    devices = make_devices(options.gpus)
    if len(devices) > 1:
        raise DMRError("a bundle runs on one GPU; name one with --gpus")
    bundle = load_bundle(options.bundle, options.form, devices[0])
    prepared = as_trained(open_prepared(options.data_dir), bundle.description)
    result = _evaluate(lambda: bundle.classify, prepared, bundle.recipe(), devices, options)
    logged = (bundle.description["training"] or {}).get("test_error")
    if options.split == "test" and logged not in (None, result.error):
        name = bundle.description["dataset"]
        print(f"note: its training logged a test error of {logged:.2f}% on {name}")


def _evaluate(load, prepared, recipe, devices, options):
    """Evaluate the network that ``load()`` returns, print the result, and write what is asked."""
    from ..analysis.mistakes import Predictions
    from ..data.check import check_quickly
    from ..runtime import mx
    from ..training.evaluate import evaluate
    from ..training.options import reading_for

    check_quickly(prepared)
    found = None
    if options.per_class or options.confusion or options.wrong:
        found = Predictions(prepared, options.split)
    try:
        each = found and found.add
        reading = reading_for(recipe, options.gpus)
        result = evaluate(
            load(), prepared, recipe, devices, options.split, reading=reading, each=each
        )
    except mx.base.MXNetError as error:
        raise DMRError(
            f"MXNet stopped: {last_line(error)}; if memory was short, use more GPUs (--gpus), or "
            f"the CPU"
        ) from error
    # With five classes or fewer, the top-5 error is always 0.
    top5 = f"top-5 error {result.top5_error:.2f}%, " if len(prepared.classes) > 5 else ""
    print(
        f"{options.split} error {result.error:.2f}% ({result.wrong} of {result.images} images), "
        f"{top5}loss {result.loss:.4f}"
    )
    if options.per_class:
        print("\n" + found.per_class())
    for path in found.write_confusion(options.confusion) if options.confusion else ():
        print(path)
    for path in found.write_mistakes(options.wrong) if options.wrong else ():
        print(path)
    return result
