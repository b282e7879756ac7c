"""One of the two workers of :func:`.data_parallel.check_workers`.

python -m dmr_gluon.device_checks.worker gpu "0;1" FOLDER
"""

import os
import sys

from ..runtime import mx
from .data_parallel import work

if __name__ == "__main__":
    kind, groups, folder = sys.argv[1:]
    numbers = groups.split(";")[int(os.environ["DMR_WORKER"])].split(",")
    work([mx.Context(kind, int(number)) for number in numbers], folder)
