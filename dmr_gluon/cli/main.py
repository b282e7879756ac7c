"""The ``dmr`` command."""

import os

from ..errors import DMRError, last_line
from ..version import __version__
from .compare import add_compare
from .data import add_data_commands
from .deploy import add_deploy_commands
from .doctor import add_doctor
from .launch import add_launch
from .networks import add_commands, write_picture
from .program import Parser, add_epoch, run
from .runs import add_run_commands


def main():
    """Run the console script ``dmr``."""
    run(_main)


def _main(arguments=None):
    parser = Parser(
        prog="dmr",
        description="Deep merge-and-run networks in MXNet: networks, data, evaluation, export. "
        "To train, run train_cifar.py, train_svhn.py or train_imagenet.py.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    for add in (
        *(add_data_commands, _add_eval, add_deploy_commands, _add_plot, add_run_commands),
        *(add_compare, add_commands, add_launch, add_doctor),
    ):
        add(commands)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.error("say what to do: " + ", ".join(commands.choices))
    options.function(options)


def _add_eval(commands):
    parser = commands.add_parser("eval", help="evaluate the network of a run")
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--data-dir", help="folder of the prepared set (default: that of the run)")
    parser.add_argument(
        "--split", default="test", help="test (default), train, or validation (SVHN only)"
    )
    add_epoch(parser)
    parser.add_argument("--gpus", help="GPUs to use: 0, 0-7 or 0,2,4-6 (default: the CPU)")
    parser.set_defaults(function=_eval)


def _eval(options):
    from ..paper.recipes import Recipe
    from ..runs.directory import RunDirectory

    run_directory = RunDirectory(options.run)
    config = run_directory.config()  # refuses what is not a run, before MXNet is loaded
    recipe = Recipe.from_json(config["recipe"])

    from ..data.check import check_quickly
    from ..data.datasets import open_as_trained
    from ..devices import make_devices
    from ..runs.trained_network import load_run
    from ..runtime import mx
    from ..training.evaluate import check_with_log, evaluate

    try:
        devices = make_devices(options.gpus)
        prepared = open_as_trained(config["dataset"], options.data_dir)
        check_quickly(prepared)
        epoch = run_directory.model_epoch(options.epoch)  # read once: training may go on
        net = load_run(run_directory, devices, epoch)
        result = evaluate(net, prepared, recipe, devices, options.split)
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
    images = {name: split.sha256 for name, split in prepared.splits.items()}
    if options.split == "test" and images == config["dataset"].get("sha256"):
        note = check_with_log(result, run_directory, epoch)
        if note:
            print(f"note: {note}")


def _add_plot(commands):
    parser = commands.add_parser("plot", help="draw the learning curves of one or more runs")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders of runs")
    parser.add_argument("--out", metavar="FILE", help=".png, .svg or .pdf (default: RUN/curve.png)")
    parser.set_defaults(function=_plot)


def _plot(options):
    from ..runs.learning_curve import learning_curve

    if not options.out and len(options.runs) > 1:
        raise DMRError("--out says where the picture of several runs goes; give it")
    out = options.out or os.path.join(options.runs[0], "curve.png")
    write_picture(lambda: learning_curve(options.runs), out)


if __name__ == "__main__":
    main()
