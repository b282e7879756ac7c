"""Subcommands of ``dmr`` for what is done with a trained network."""

from .flags import add_epoch


def add_deploy_commands(commands):
    """Add export to the parser of ``dmr``."""
    _add_export(commands)


def _add_export(commands):
    parser = commands.add_parser("export", help="a run's network as files that plain MXNet loads")
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("--out", required=True, metavar="DIR", help="where to write")
    add_epoch(parser)
    parser.set_defaults(function=_export)


def _export(options):
    from .deploy.export import export

    export(options.run, options.out, options.epoch)
    print(
        f"{options.out}: model-symbol.json, model-0000.params and bundle.json; "
        f"loaded again by MXNet, with equal outputs"
    )
