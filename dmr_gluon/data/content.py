"""Identify official sets by a digest of all their images and labels, in any order.

An image's digest is the SHA-256 of its label (one byte, the class's number in the official,
alphabetical order) and its red, green and blue planes, row by row: 3,073 bytes, as in the official
binary files. A split's is the SHA-256 of its images' digests, written in hexadecimal, sorted and
joined by newlines. Neither depends on the order of the images or on their container.
"""

import hashlib
import os
from collections import Counter

from ..errors import DMRError

#: Digests of the splits. CIFAR-100 has five training images twice.
DIGESTS = {
    "cifar10": {
        "train": "db28efe497c9b82be037ffd9f6b7cf48d67fef0a8dfb1dd15123b5112df6a8d2",
        "test": "e538964ee44232a783d29be2fc630811262a34507d51219810aae7ba16ef4207",
    },
    "cifar100": {
        "train": "e2976a30da6748cef641a0fb4a4caf5a4f6d98c04757b245461d2b22e38e24aa",
        "test": "3c57437b59d1657edfbe5f0b0c0b457e27d44a63a5a16ebcd9389d892bef71d2",
    },
}
#: Sets whose images are also known one by one, by the first ``PREFIX`` bytes of their digests
#: (``NAME.digests``, from ``tools/write_digests.py``). They only serve to describe what is wrong.
_KNOWN = {"cifar10": {"train": 50_000, "test": 10_000}}
PREFIX = 5
#: Number of images of each kind that a refusal names.
_NAMED = 2


def image_digest(image, label):
    """Return the SHA-256 of one image (height, width, 3), RGB of uint8, and its label.

    For an image of another size than 32x32 the hashed bytes begin with its size, so its digest is
    never one of an official set.
    """
    size = b"" if image.shape == (32, 32, 3) else repr(image.shape).encode()
    planes = image.transpose(2, 0, 1).tobytes()
    return hashlib.sha256(size + bytes([label]) + planes).digest()


def split_digest(digests):
    """Return the digest of a split in hexadecimal, from those of its images in any order."""
    lines = "\n".join(sorted(digest.hex() for digest in digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def file_of(dataset):
    """Return the path of the file with the prefixes of the digests of a set's images."""
    return os.path.join(os.path.dirname(__file__), f"{dataset}.digests")


def known_images(dataset):
    """Return the prefixes of the digests of a set's images.

    Returns
    -------
    dict of str to Counter, or None
        By split; None if they are not known.
    """
    if dataset not in _KNOWN:
        return None
    with open(file_of(dataset), "rb") as file:
        return {
            split: Counter(file.read(PREFIX) for _ in range(count))
            for split, count in _KNOWN[dataset].items()
        }


def require_official(dataset, source, splits, classes, digests, remedy):
    """Refuse images that are not exactly an official set's.

    Parameters
    ----------
    dataset : str
        One of :data:`DIGESTS`.
    source : str
        Their origin, for the refusal.
    splits : dict of str to (images, labels, names)
        ``train`` and ``test``.
    classes : list of str
    digests : dict of str to list of bytes
        :func:`image_digest` of each image, by split.
    remedy : str
        Advice, for the refusal.

    Raises
    ------
    DMRError
        In one line: how many images are expected and found, and, if the set's images are known one
        by one, how many are not the set's and how many are missing.
    """
    wrong = [
        _difference(dataset, split, *splits[split], classes, digests[split])
        for split, wanted in DIGESTS[dataset].items()
        if split_digest(digests[split]) != wanted
    ]
    if wrong:
        raise DMRError(f"{source} is not {dataset}: {'; '.join(wrong)}; {remedy}")


def _difference(dataset, split, images, labels, names, classes, digests):
    """Describe how one split differs from the official one."""
    known = known_images(dataset)
    if known is None:
        seen, again = set(), []
        for i, digest in enumerate(digests):
            if digest in seen:
                again.append(i)
            seen.add(digest)
        twice = f", {len(again):,} of them again ({_examples(names, again)})" if again else ""
        return f"{split} has {len(digests):,} images{twice}, and their digest is not the set's"
    left = Counter(known[split])
    rest, strange, again, moved = [], [], [], {}
    for i, digest in enumerate(digests):
        if left[digest[:PREFIX]] > 0:
            left[digest[:PREFIX]] -= 1
        else:
            rest.append(i)
    for i in rest:  # once all correct images are accounted for
        if known[split][digests[i][:PREFIX]]:
            again.append(i)
            continue
        others = (image_digest(images[i], label)[:PREFIX] for label in range(len(classes)))
        right = [(label, other) for label, other in enumerate(others) if left[other] > 0]
        if right:
            label, other = right[0]
            left[other] -= 1
            moved[i] = classes[label]
        else:
            strange.append(i)
    parts = [f"{split} has {len(digests):,} images of {sum(known[split].values()):,}"]
    if strange:
        parts.append(f"{_are(strange)} not the set's ({_examples(names, strange)})")
    if moved:
        i, right = next(iter(moved.items()))
        parts.append(f"{_are(moved)} in another class ({names[i]!r} is one of {right})")
    if again:
        parts.append(f"{_are(again)} there again ({_examples(names, again)})")
    missing = sum(left.values())
    if missing:
        parts.append(f"{missing:,} of the set {'is' if missing == 1 else 'are'} missing")
    return ", ".join(parts)


def _are(found):
    return f"{len(found):,} {'is' if len(found) == 1 else 'are'}"


def _examples(names, positions):
    shown = ", ".join(repr(names[i]) for i in positions[:_NAMED])
    return shown + (", ..." if len(positions) > _NAMED else "")
