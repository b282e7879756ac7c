"""Subcommands of ``dmr`` that deploy trained networks: export, predict, publish."""

import signal
import sys

from ..errors import DMRError, Stopped
from ..standalone.predict_onnx import add_arguments
from ..system.signals import handled
from .program import add_epoch


def add_deploy_commands(commands):
    """Add export, predict and publish to the parser of ``dmr``."""
    _add_export(commands)
    _add_predict(commands)
    _add_publish(commands)


def _add_export(commands):
    parser = commands.add_parser(
        "export", help="write a run's network as a bundle, for use by other programs"
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("--out", required=True, metavar="BUNDLE", help="the folder to write")
    add_epoch(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--forms", metavar="FORM,...",
        help="forms to write besides plain: bn-folded, folded (the merge's factor too), fused "
        "(oneDNN), grouped, int8, int8-entropy, onnx; each is first compared with the network",
    )  # fmt: skip
    which.add_argument(
        "--all", action="store_true",
        help="write all forms, measure their speed and add a table (forms.md)",
    )  # fmt: skip
    parser.add_argument(
        "--preprocess", action="store_true",
        help="include normalisation in the graph, which then takes pixels (NHWC, 0 to 255)",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", metavar="DIR",
        help="prepared set to compare and calibrate on (default: the run's)",
    )  # fmt: skip
    parser.add_argument(
        "--check-images", type=int, metavar="N",
        help="test images to compare on (default: 256, with INT8 10,000, with --all all of them)",
    )  # fmt: skip
    parser.add_argument(
        "--int8-limit", type=float, metavar="POINTS",
        help="percentage points of error that INT8 may add (default: 0.5)",
    )  # fmt: skip
    parser.set_defaults(function=_export)


def _export(options):
    from ..deploy.bundle_writer import TABLE, ExportOptions
    from ..deploy.export import export
    from ..deploy.variants import INT8

    forms = tuple(name.strip() for name in (options.forms or "").split(",") if name.strip())
    if options.forms is not None and not forms:
        raise DMRError("--forms names none; leave it out, or write some, such as folded,onnx")
    limit = {} if options.int8_limit is None else {"int8_limit": options.int8_limit}
    wanted = ExportOptions(forms, options.preprocess, options.all, options.check_images, **limit)
    if limit and not options.all and not set(forms) & set(INT8):
        raise DMRError("--int8-limit is for INT8; leave it out, or add int8 to --forms")

    def stop(number, frame):
        raise Stopped(number, "stopped; no bundle was written")

    # Stop by an exception, which removes unfinished files.
    with handled(stop, (signal.SIGTERM, signal.SIGHUP)):
        description = export(options.run, options.out, options.epoch, wanted, options.data_dir)
    if description["forms"]["plain"]["compared"]["error"] is None:
        print("note: the run's data set is gone; compared on random images (see --data-dir)")
    if description["training"] is None:
        print("note: the run's log has no complete line of that epoch; bundle.json omits it")
    for name, entry in description["forms"].items():
        compared = entry["compared"]
        error = "" if compared["error"] is None else f", error {compared['error']:.2f}%"
        print(
            f"{name}: {' and '.join(entry['files'])}; logits at most "
            f"{compared['largest_difference']:.1e} from the network's on {compared['images']} "
            f"images, another class for {compared['another_class']}{error}"
        )
    if options.all:
        with open(f"{options.out}/{TABLE}", encoding="utf-8") as file:
            print(f"\n{file.read()}")
    print(f"{options.out}: a bundle, which is verified whenever it is loaded (bundle.json)")


def _add_predict(commands):
    parser = commands.add_parser("predict", help="classify images with a bundle's network")
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder")
    add_arguments(parser)
    parser.add_argument("--form", default="plain", help="the bundle's form to use (default: plain)")
    parser.add_argument("--gpu", type=int, metavar="N", help="the GPU to use (default: the CPU)")
    parser.set_defaults(function=_predict)


def _predict(options):
    from ..deploy.predict import predict

    if predict(options.bundle, options, options.form, options.gpu):
        sys.exit(1)


def _add_publish(commands):
    parser = commands.add_parser(
        "publish", help="put a run's network into a store, for get_model(..., pretrained=True)"
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, or that of a bundle")
    parser.add_argument("store", metavar="STORE", help="a store's folder; made if need be")
    add_epoch(parser)
    parser.set_defaults(function=_publish)


def _publish(options):
    from ..deploy.store import publish

    entry, new = publish(options.run, options.store, options.epoch)
    facts = [f"{entry['classes']} classes"]
    facts += [entry["dataset"]] if entry["dataset"] else []
    facts += [] if entry["test_error"] is None else [f"test error {entry['test_error']:.2f}%"]
    said = "published" if new else "already there, nothing is changed:"
    print(f"{said} {entry['folder']} in {options.store} ({', '.join(facts)})")
    print(f"sha256 of its bundle.json: {entry['sha256']}")
    name, digits = entry["network"], entry["sha256"][:8]
    print(f'get_model("{name}", pretrained="{digits}", root="{options.store}") loads it')
