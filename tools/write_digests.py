#!/usr/bin/env python3
"""Write the beginnings of the digests of a prepared set's images, which content.py knows it by.

    python tools/write_digests.py data/cifar10

writes dmr_gluon/data/cifar10.digests: those of the training images, then those of the test images,
each sorted.
"""

import sys

from dmr_gluon.data import content
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.data.reader import RecordFile


def main(directory):
    prepared = open_prepared(directory)
    out = content.file_of(prepared.name)
    with open(out, "wb") as file:
        for name in ("train", "test"):
            with RecordFile(prepared.split(name)) as records:
                digests = [
                    content.image_digest(*records.image(number)) for number in range(len(records))
                ]
            assert content.split_digest(digests) == content.DIGESTS[prepared.name][name]
            file.writelines(digest[: content.PREFIX] for digest in sorted(digests))
    print(f"wrote {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
