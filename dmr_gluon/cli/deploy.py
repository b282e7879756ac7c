"""Subcommands of ``dmr`` for bundles: export, predict, publish, import-authors."""

import signal
import sys

from ..errors import DMRError, Stopped
from ..standalone.predict_onnx import add_arguments
from ..system.settings import number
from ..system.signals import handled
from .program import add_epoch, add_plugin


def add_commands(commands):
    """Add export, predict, publish and import-authors to the parser of ``dmr``."""
    text = "write a run's network as a bundle, for use by other programs"
    parser = commands.add_parser("export", function=_export, help=text)
    named = "folder of a run; or a bundle (folder, or name in the store of DMR_MODEL_STORE)"
    parser.add_argument("run", metavar="RUN", help=named)
    parser.add_argument("--out", required=True, metavar="BUNDLE", help="folder to write")
    add_epoch(parser)
    add_plugin(parser)
    which = parser.add_mutually_exclusive_group()
    forms = (
        "forms to write in addition to plain: bn-folded, folded (also folds the merge's factor), "
        "fused (oneDNN), int8, onnx; each is compared with the network first"
    )
    which.add_argument("--forms", default="", metavar="FORM,...", help=forms)
    which.add_argument("--all", action="store_true", help="write all, and their speeds (forms.md)")
    pixels = "include normalisation in the graph, which then takes pixels (NHWC, 0 to 255)"
    parser.add_argument("--preprocess", action="store_true", help=pixels)
    data = "prepared set to compare and calibrate on (default: the run's)"
    parser.add_argument("--data-dir", metavar="DIR", help=data)
    images = "test images to compare on (default: 256, with INT8 10,000, with --all all of them)"
    parser.add_argument("--check-images", type=number(int, 1), metavar="N", help=images)
    limit = "percentage points of error that INT8 may add (default: 0.5)"
    parser.add_argument("--int8-limit", type=number(float, 0, 100), metavar="POINTS", help=limit)

    text = "classify images with a bundle's network"
    parser = commands.add_parser("predict", function=_predict, help=text)
    named = "folder of a bundle, or a network's name in the store of DMR_MODEL_STORE"
    parser.add_argument("bundle", metavar="BUNDLE", help=named)
    add_arguments(parser)
    parser.add_argument("--form", default="plain", help="form of the bundle (default: plain)")
    gpu = "GPU to use (default: the CPU)"
    parser.add_argument("--gpu", type=number(int, 0, 9999), metavar="N", help=gpu)

    text = "add a run's network to a store, for get_model(..., pretrained=True)"
    parser = commands.add_parser("publish", function=_publish, help=text)
    parser.add_argument("run", metavar="RUN", help="folder of a run or a bundle")
    parser.add_argument("store", metavar="STORE", help="folder of a store, created if missing")
    add_epoch(parser)
    add_plugin(parser)

    text = "convert a checkpoint of the authors' code (2016) to a bundle"
    parser = commands.add_parser("import-authors", function=_import_authors, help=text)
    prefix = "path prefix of PREFIX-NNNN.params and PREFIX-symbol.json"
    parser.add_argument("prefix", metavar="PREFIX", help=prefix)
    parser.add_argument("epoch", metavar="EPOCH", type=int, help="the number NNNN")
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: PREFIX-imported)")
    dataset = "data set that it was trained on (for the normalisation)"
    parser.add_argument("--dataset", choices=("cifar10", "cifar100", "svhn"), help=dataset)


def _export(options):
    from ..deploy.bundle_writer import TABLE, ExportOptions
    from ..deploy.export import export
    from ..deploy.variants import INT8

    forms = tuple(filter(None, map(str.strip, options.forms.split(","))))
    if options.int8_limit is not None and not (options.all or INT8 in forms):
        raise DMRError("--int8-limit is for INT8; leave it out, or add int8 to --forms")
    limit = {} if options.int8_limit is None else {"int8_limit": options.int8_limit}
    wanted = ExportOptions(forms, options.preprocess, options.all, options.check_images, **limit)

    def stop(number, frame):
        raise Stopped(number, "stopped; no bundle was written")

    # Stop by an exception, which removes unfinished files.
    with handled(stop, (signal.SIGTERM, signal.SIGHUP)):
        description = export(options.run, options.out, options.epoch, wanted, options.data_dir)
    if description["forms"]["plain"]["compared"]["error"] is None:
        print("note: no test images were found; compared on random images (see --data-dir)")
    if description["training"] is None:
        print("note: no complete line of that epoch's log was found; bundle.json has none")
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


def _predict(options):
    from ..deploy.predict import predict

    if predict(options.bundle, options, options.form, options.gpu):
        sys.exit(1)


def _publish(options):
    from ..deploy.store import publish

    entry, new = publish(options.run, options.store, options.epoch)
    said = "published" if new else "already there, nothing is changed:"
    print(f"{said} {entry['folder']} in {options.store}, {entry['classes']} classes")
    name, digits = entry["network"], entry["sha256"][:8]
    print(f'get_model("{name}", pretrained="{digits}", root="{options.store}") loads it')


def _import_authors(options):
    from ..deploy.import_authors import import_checkpoint

    out = options.out or options.prefix + "-imported"
    net, mapping, difference = import_checkpoint(
        options.prefix, options.epoch, out, options.dataset
    )
    print(f"{net.spec.name}, {net.spec.classes} classes: {len(mapping)} tensors, all mapped")
    if difference is None:
        print(f"no {options.prefix}-symbol.json: the predictions were not compared")
    else:
        print(f"their symbol and our network predict the same, to {difference:.1e}")
    if options.dataset is None:
        print("bundle.json has no mean and std: name the training set with --dataset")
    print(f"{out}: a bundle, with mapping.json")
