"""Subcommands of ``dmr`` about data sets: preparing, checking, looking."""

import os
import re
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
    prepare = commands.add_parser("prepare", help="make a data set ready for training")
    sets = prepare.add_subparsers(metavar="DATASET", dest="source_kind")
    prepare.set_defaults(
        function=lambda options: prepare.error("say which: " + ", ".join(sets.choices))
    )
    digits = sets.add_parser("digits", help="scikit-learn's 1,797 handwritten digits, 32x32")
    folder = sets.add_parser("folder", help="any tree of train/<class>/* and test/<class>/* images")
    folder.add_argument("source", metavar="SRC", help="the tree")
    folder.add_argument("--name", help="the set's name in logs and results (default: SRC's)")
    folder.add_argument(
        "--resize",
        type=_size,
        metavar="SIZE",
        help="32x32: exactly that width and height; 480: that shorter side (default: as they are)",
    )
    folder.add_argument(
        "--encoding",
        choices=("auto", "png", "jpeg"),
        default="auto",
        help="auto: JPEG where the source is JPEG, else lossless PNG",
    )
    folder.add_argument(
        "--quality", type=int, help="encode all JPEGs anew with it, 1 to 100 (default: keep them)"
    )
    folder.add_argument(
        "--ignore-orientation",
        action="store_true",
        help="leave photographs as they lie in their files (default: upright, as EXIF says)",
    )
    parsers = [(digits, _prepare_digits), (folder, _prepare_folder)]
    tree = ", its folder, or a tree of train/<class>/* and test/<class>/* of lossless images"
    for name, text, source in (
        ("cifar10", "cifar-10-python.tar.gz or cifar-10-binary.tar.gz", "{}" + tree),
        ("cifar100", "cifar-100-python.tar.gz or cifar-100-binary.tar.gz", "{}" + tree),
        ("svhn", "train_32x32.mat, extra_32x32.mat and test_32x32.mat", "folder with {}"),
    ):
        official = sets.add_parser(name, help=f"from the official {text}")
        _add_archives(official, name, source.format(text))
        if name == "svhn":
            official.add_argument(
                "--svhn-split",
                choices=("paper", "authors"),
                default="paper",
                help="paper: 6,000 images set aside for validation; authors: all trained on",
            )
        official.add_argument(
            "--jpeg-quality",
            type=int,
            metavar="Q",
            help="store the images as JPEGs of that quality, 1 to 100, as MXNet's im2rec does; "
            f"the set is then called {name}-jpegQ (default: lossless)",
        )
        parsers.append((official, _prepare_official))
    imagenet = sets.add_parser("imagenet", help="from the official tars, or train/ and val/")
    _add_archives(imagenet, "imagenet", "folder with the archives or the tree")
    imagenet.add_argument(
        "--short-side",
        type=int,
        help="resize to it: 480 (authors) or 256 (default: not)",
    )
    imagenet.add_argument("--quality", type=int, help="encode all anew with it, 1 to 100")
    imagenet.add_argument(
        "--checksums",
        action="store_true",
        help="put the archives' hashes into the manifest, compared with the published ones; "
        "this reads their 150 GB once more",
    )
    parsers.append((imagenet, _prepare_imagenet))
    for parser, function in parsers:
        parser.add_argument("--out", required=True, metavar="DIR", help="where to write")
        parser.add_argument(
            "--overwrite", action="store_true", help="replace another set that is in DIR"
        )
        parser.set_defaults(function=function)


def _add_archives(parser, name, text):
    parser.add_argument(
        "--source", metavar="PATH", help=f"{text}; without it, the archives are downloaded"
    )
    parser.add_argument(
        "--archives", metavar="DIR", help=f"where to download to (default: data/archives/{name})"
    )
    parser.add_argument(
        "--mirror", metavar="URL", help="a folder that has the archives, to download from"
    )
    parser.add_argument(
        "--proxy", metavar="URL", help="download through it (default: https_proxy and http_proxy)"
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help=f"prepare whatever is there, as partial-{name}",
    )
    parser.set_defaults(dataset=name)


def _archives(options):
    """What to prepare from: ``--source``, or what has been downloaded."""
    from ..datasets.download import download

    if options.source is None:
        folder = options.archives or os.path.join("data", "archives", options.dataset)
        download(options.dataset, folder, options.mirror, options.proxy)
        return folder
    for flag in ("archives", "mirror", "proxy"):
        if getattr(options, flag) is not None:
            raise DMRError(f"--{flag} is for downloading; leave it out with --source")
    return options.source


def _size(text):
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    numbers = [int(n) for n in match.groups() if n] if match else [0]
    if not all(1 <= n <= 10_000 for n in numbers):
        raise DMRError(f"--resize {text}: write 32x32 (width x height) or 480 (shorter side)")
    return numbers[0] if len(numbers) == 1 else (numbers[1], numbers[0])


def _prepare_digits(options):
    from ..datasets.folder import prepare_digits

    _tell(prepare_digits(options.out, options.overwrite))


def _prepare_folder(options):
    from ..datasets.encoder import Encoding
    from ..datasets.folder import prepare_folder

    _check_quality(options.quality)
    if options.quality is not None and options.encoding == "png":
        raise DMRError("--quality is for JPEGs; leave it out with --encoding png")
    encoding = Encoding(
        options.resize, options.encoding, options.quality, not options.ignore_orientation
    )
    _tell(prepare_folder(options.source, options.out, options.name, encoding, options.overwrite))


def _check_quality(quality, flag="--quality"):
    if quality is not None and not 1 <= quality <= 100:
        raise DMRError(f"{flag} must be from 1 to 100, not {quality}")


def _prepare_imagenet(options):
    from ..datasets.prepare_official import prepare_imagenet

    _check_quality(options.quality)
    if options.short_side is not None and not 1 <= options.short_side <= 10_000:
        raise DMRError(f"--short-side must be from 1 to 10,000, not {options.short_side}")
    _tell(
        prepare_imagenet(
            _archives(options),
            options.out,
            short_side=options.short_side,
            quality=options.quality,
            checksums=options.checksums,
            partial=options.partial,
            overwrite=options.overwrite,
        )
    )


def _prepare_official(options):
    from ..datasets.prepare_official import prepare_official

    _check_quality(options.jpeg_quality, "--jpeg-quality")
    _tell(
        prepare_official(
            options.dataset,
            _archives(options),
            options.out,
            svhn_split=getattr(options, "svhn_split", "paper"),
            jpeg_quality=options.jpeg_quality,
            partial=options.partial,
            overwrite=options.overwrite,
        )
    )


def _tell(prepared):
    counts = ", ".join(f"{split.count} {name}" for name, split in prepared.splits.items())
    size = "{1}x{0}".format(*prepared.image_size) if prepared.image_size else "of several sizes"
    print(
        f"{shown(prepared.directory)}: {shown(prepared.name)}, {counts} images {size}, "
        f"{len(prepared.classes)} classes"
    )


def _add_check(commands):
    parser = commands.add_parser(
        "check", help="is a prepared set what was prepared? every record, image and hash"
    )
    parser.add_argument("data_dir", metavar="DIR", help="folder of a prepared set")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="decode only N images of each split (default: all)"
    )
    parser.add_argument(
        "--no-hashes", action="store_true", help="leave out the SHA-256 of the files"
    )
    parser.set_defaults(function=_check)


def _check(options):
    from ..data.check import check

    report = check(options.data_dir, sample=options.sample, hashes=not options.no_hashes)
    print(report.text())
    if not report.ok:
        sys.exit(1)


def _add_show(commands):
    parser = commands.add_parser(
        "show", help="a picture of a set's images as training and evaluation see them"
    )
    parser.add_argument("data_dir", metavar="DIR", help="folder of a prepared set")
    parser.add_argument("--out", metavar="FILE", help="picture (default: DIR/images.png)")
    parser.add_argument("--seed", type=int, default=1, help="of the augmentation (default: 1)")
    parser.add_argument("--epoch", type=int, default=1, help="of the training (default: 1)")
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
