"""Subcommands of ``dmr`` for data sets: prepare, check, show."""

import inspect
import os
import sys

from ..standalone.predict_onnx import shown


def add_commands(commands):
    """Add prepare, check and show to the parser of ``dmr``."""
    commands.add_parser("prepare", help="prepare a data set for training", add_later=_add_datasets)

    text = "verify a prepared set against its manifest: every record, image and hash"
    parser = commands.add_parser("check", function=_check, help=text)
    parser.add_argument("data_dir", metavar="DIR", help="folder of a prepared set")

    text = "draw a set's images as training and evaluation see them"
    parser = commands.add_parser("show", function=_show, help=text)
    parser.add_argument("data_dir", metavar="DIR", help="folder of a prepared set")
    parser.add_argument("--out", metavar="FILE", help="picture (default: DIR/images.png)")


def _add_datasets(prepare):
    """Add the data sets to ``dmr prepare``."""
    from ..datasets.registry import DATASETS

    names = "{" + ", ".join(DATASETS) + "}"
    sets = prepare.add_subparsers(metavar=names, dest="source_kind", required=True)
    for entry in DATASETS.values():
        parser = sets.add_parser(entry.name, function=_prepare, help=entry.summary)
        parser.set_defaults(entry=entry)
        if entry.archives:
            where = parser.add_mutually_exclusive_group()
            source = f"{entry.source}; default: download to {_archives(entry)}"
            where.add_argument("--source", metavar="PATH", help=source)
            where.add_argument("--mirror", metavar="URL", help="download from here instead")
            partial = f"prepare the images that exist, as partial-{entry.name}"
            parser.add_argument("--partial", action="store_true", help=partial)
        entry.add_flags(parser)
        parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
        parser.add_argument("--overwrite", action="store_true", help="replace another set in DIR")


def _archives(entry):
    return os.path.join("data", "archives", entry.name)


def _prepare(options):
    entry = options.entry
    if entry.archives and options.source is None:
        from ..datasets.download import download

        options.source = _archives(entry)
        download(entry.name, entry.archives, options.source, options.mirror)
    parameters = inspect.signature(entry.prepare).parameters
    prepared = entry.prepare(**{name: getattr(options, name) for name in parameters})
    counts = ", ".join(f"{split.count} {name}" for name, split in prepared.splits.items())
    size = "{1}x{0}".format(*prepared.image_size) if prepared.image_size else "of several sizes"
    print(
        f"{shown(prepared.directory)}: {shown(prepared.name)}, {counts} images {size}, "
        f"{len(prepared.classes)} classes"
    )


def _check(options):
    from ..data.check import check

    report = check(options.data_dir)
    print(report.text())
    if not report.ok:
        sys.exit(1)


def _show(options):
    from ..data.check import check_quickly
    from ..data.datasets import open_prepared
    from ..datasets import contact_sheet
    from ..runs.learning_curve import write_picture

    prepared = open_prepared(options.data_dir)
    check_quickly(prepared)
    out = options.out or os.path.join(options.data_dir, "images.png")
    write_picture(lambda: contact_sheet.draw(prepared), out)
    print(out)
