#!/usr/bin/env python3
"""Write the beginnings of the digests of a prepared set's images, which content.py knows it by.

    python tools/write_digests.py data/cifar10

writes dmr_gluon/data/cifar10.digests: those of the training images, then those of the test
images, each sorted.
"""

import sys

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.data import content
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.data.reader import RecordFile


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", help="folder of an official set")
    prepared = open_prepared(parser.parse_args().data_dir)
    beginnings = []
    for name in ("train", "test"):
        with RecordFile(prepared.split(name)) as records:
            digests = [content.image_digest(*records.image(n)) for n in range(len(records))]
        if content.split_digest(digests) != content.DIGESTS[prepared.name][name]:
            sys.exit(f"{prepared.directory}: {name} is not {prepared.name}'s")
        beginnings += [digest[: content.PREFIX] for digest in sorted(digests)]
    out = content.file_of(prepared.name)
    with open(out, "wb") as file:
        file.writelines(beginnings)
    print(f"wrote {out}")


if __name__ == "__main__":
    run(main)
