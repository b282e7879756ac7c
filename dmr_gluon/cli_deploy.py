"""Subcommands of ``dmr`` for what is done with a trained network."""

import sys

from .deploy.predict_onnx import add_arguments
from .flags import add_epoch


def add_deploy_commands(commands):
    """Add export and predict to the parser of ``dmr``."""
    _add_export(commands)
    _add_predict(commands)


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


def _add_predict(commands):
    parser = commands.add_parser("predict", help="what an exported network says about images")
    parser.add_argument("bundle", metavar="BUNDLE", help="a folder that dmr export wrote")
    add_arguments(parser)
    parser.add_argument("--form", default="plain", help="which of the bundle's (default: plain)")
    parser.add_argument("--gpu", metavar="N", help="the GPU to use; without it, the CPU")
    parser.set_defaults(function=_predict)


def _predict(options):
    from .deploy.predict import predict

    if predict(options.bundle, options, options.form, options.gpu):
        sys.exit(1)
