"""Subcommands of ``dmr`` for what is done with a trained network."""

from .flags import add_epoch


def add_deploy_commands(commands):
    """Add export and publish to the parser of ``dmr``."""
    _add_export(commands)
    _add_publish(commands)


def _add_publish(commands):
    parser = commands.add_parser(
        "publish", help="put a run's network into a store, for get_model(..., pretrained=True)"
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, or that of a bundle")
    parser.add_argument("store", metavar="STORE", help="a store's folder; made if need be")
    add_epoch(parser)
    parser.set_defaults(function=_publish)


def _publish(options):
    from .deploy.store import publish

    entry, new = publish(options.run, options.store, options.epoch)
    facts = [f"{entry['classes']} classes"]
    facts += [entry["dataset"]] if entry["dataset"] else []
    facts += [] if entry["test_error"] is None else [f"test error {entry['test_error']:.2f}%"]
    said = "published" if new else "already there, nothing is changed:"
    print(f"{said} {entry['folder']} in {options.store} ({', '.join(facts)})")
    print(f"sha256 of its bundle.json: {entry['sha256']}")
    name, digits = entry["network"], entry["sha256"][:8]
    print(f'get_model("{name}", pretrained="{digits}", root="{options.store}") loads it')


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
