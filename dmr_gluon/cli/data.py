"""Subcommands of ``dmr`` for data sets: prepare, check, show."""

import inspect
import os
import sys

from ..errors import DMRError
from ..standalone.predict_onnx import shown
from .networks import write_picture


def add_data_commands(commands):
    """Add prepare, check and show to the parser of ``dmr``."""
    _add_prepare(commands)
    _add_check(commands)
    _add_show(commands)


def _add_prepare(commands):
    prepare = commands.add_parser(
        "prepare", help="prepare a data set for training", add_later=_add_datasets
    )
    prepare.set_defaults(
        function=lambda options: prepare.error("name one: " + ", ".join(options.datasets))
    )


def _add_datasets(prepare):
    """Add the data sets to ``dmr prepare``."""
    from ..datasets.registry import DATASETS

    sets = prepare.add_subparsers(metavar="DATASET", dest="source_kind")
    prepare.set_defaults(datasets=list(DATASETS))
    for entry in DATASETS.values():
        parser = sets.add_parser(entry.name, help=entry.summary)
        if entry.archives:
            _add_archives(parser, entry)
        entry.add_flags(parser)
        parser.add_argument("--out", required=True, metavar="DIR", help="where to write")
        parser.add_argument("--overwrite", action="store_true", help="replace another set in DIR")
        parser.set_defaults(function=_prepare, entry=entry)


def _add_archives(parser, entry):
    parser.add_argument(
        "--source", metavar="PATH", help=f"{entry.source}; default: download the archives"
    )
    parser.add_argument(
        "--archives",
        metavar="DIR",
        help=f"where to download to (default: data/archives/{entry.name})",
    )
    parser.add_argument(
        "--mirror", metavar="URL", help="download from this folder instead of the official place"
    )
    parser.add_argument(
        "--partial", action="store_true", help=f"prepare what is there, as partial-{entry.name}"
    )


def _prepare(options):
    if options.entry.archives:
        options.source = _find_archives(options)
    parameters = inspect.signature(options.entry.prepare).parameters
    _tell(options.entry.prepare(**{name: getattr(options, name) for name in parameters}))


def _find_archives(options):
    """Return ``--source``, or the folder with the downloaded archives."""
    if options.source is not None:
        for flag in ("archives", "mirror"):
            if getattr(options, flag) is not None:
                raise DMRError(f"--{flag} is for downloading; leave it out with --source")
        return options.source
    from ..datasets.download import download

    folder = options.archives or os.path.join("data", "archives", options.entry.name)
    download(options.entry.name, options.entry.archives, folder, options.mirror)
    return folder


def _tell(prepared):
    counts = ", ".join(f"{split.count} {name}" for name, split in prepared.splits.items())
    size = "{1}x{0}".format(*prepared.image_size) if prepared.image_size else "of several sizes"
    print(
        f"{shown(prepared.directory)}: {shown(prepared.name)}, {counts} images {size}, "
        f"{len(prepared.classes)} classes"
    )


def _add_check(commands):
    parser = commands.add_parser(
        "check", help="verify a prepared set against its manifest: every record, image and hash"
    )
    parser.add_argument("data_dir", metavar="DIR", help="folder of a prepared set")
    parser.set_defaults(function=_check)


def _check(options):
    from ..data.check import check

    report = check(options.data_dir)
    print(report.text())
    if not report.ok:
        sys.exit(1)


def _add_show(commands):
    parser = commands.add_parser(
        "show", help="draw a set's images as training and evaluation see them"
    )
    parser.add_argument("data_dir", metavar="DIR", help="folder of a prepared set")
    parser.add_argument("--out", metavar="FILE", help="picture (default: DIR/images.png)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the augmentation (default: 1)")
    parser.add_argument("--epoch", type=int, default=1, help="epoch of the training (default: 1)")
    parser.set_defaults(function=_show)


def _show(options):
    from ..data.check import check_quickly
    from ..data.datasets import open_prepared
    from ..datasets import contact_sheet

    if options.seed < 0 or options.epoch < 1:
        raise DMRError("--seed must be at least 0 and --epoch at least 1")
    prepared = open_prepared(options.data_dir)
    check_quickly(prepared)
    out = options.out or os.path.join(options.data_dir, "images.png")
    write_picture(lambda: contact_sheet.draw(prepared, seed=options.seed, epoch=options.epoch), out)
