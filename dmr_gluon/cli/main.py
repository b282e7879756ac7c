"""The ``dmr`` command."""

from ..errors import DMRError
from ..version import __version__
from . import compare, data, deploy, doctor, evaluation, launch, networks, runs, verify
from .program import Parser, run


def main():
    """Run the console script ``dmr``."""
    run(_main)


def _main(arguments=None):
    options = parse(arguments)
    if hasattr(options, "prepare"):
        options.prepare(options)  # before MXNet is imported, which a plugin may do
    if getattr(options, "plugin", None):
        from ..runs.plugins import import_plugin

        import_plugin(options.plugin)
    options.function(options)


def parse(arguments=None):
    """Parse a command line; ``flags`` of the result are those that ``dmr train`` passes on."""
    parser = Parser(
        prog="dmr",
        description="Deep merge-and-run networks in MXNet: networks, data, evaluation, export. "
        "To train, run train_cifar.py, train_svhn.py or train_imagenet.py.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for module in (data, runs, evaluation, compare, deploy, networks, verify, launch, doctor):
        module.add_commands(commands)
    options, flags = parser.parse_known_args(arguments)
    if flags and options.command != "train":
        unknown = f"unrecognized arguments: {' '.join(flags)}"
        raise DMRError(f"{unknown}; see dmr {options.command} --help")
    options.flags = [flag for flag in flags if flag != "--"]
    return options


if __name__ == "__main__":
    main()
