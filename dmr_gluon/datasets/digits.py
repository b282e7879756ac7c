"""scikit-learn's handwritten digits as a prepared data set."""

import cv2
import numpy as np

from ..errors import DMRError
from .encoder import Encoding, Source
from .registration import Registration
from .writer import write_set


def prepare_digits(out, overwrite=False):
    """Prepare scikit-learn's 1,797 handwritten digits as 32x32 RGB.

    They are 8x8 grey values from 0 to 16, enlarged four times with cubic interpolation.
    1,437 are for training and 360 for testing, in equal shares of each digit.

    Parameters
    ----------
    out : str
    overwrite : bool
        Replace another prepared set in ``out``.

    Returns
    -------
    RecordDataset
    """
    return write_set("digits", "1", _read, out, Encoding(), overwrite)


def _read():
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DMRError(
            "the digits come with scikit-learn, which is not installed; "
            "pip install 'scikit-learn<1.6' 'scipy<1.13' (later ones need another NumPy)"
        ) from error
    digits = load_digits()
    train, test = train_test_split(
        range(len(digits.target)), test_size=360, stratify=digits.target, random_state=0
    )

    def enlarge(position):
        grey = np.rint(digits.images[position] * (255 / 16)).astype(np.uint8)
        large = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_CUBIC)
        return np.repeat(large[:, :, None], 3, axis=2)

    sources = {
        name: [
            Source(f"digit {i}", int(digits.target[i]), lambda i=i: enlarge(i)) for i in positions
        ]
        for name, positions in (("train", train), ("test", test))
    }
    return [str(digit) for digit in range(10)], sources, {}


DIGITS = Registration("digits", "scikit-learn's 1,797 handwritten digits, 32x32", prepare_digits)
