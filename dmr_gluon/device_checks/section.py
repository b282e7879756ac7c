"""One section of the checks, in a process of its own: answers with a line of JSON for each check.

python -m dmr_gluon.device_checks.section kvstores gpu 0,1 FOLDER
"""

import json
import os
import sys
import traceback
from dataclasses import asdict

from ..errors import last_line
from ..runtime import mx
from . import arithmetic, data_parallel, whole_run
from .checks import FAILED, Check

#: What each section checks, by its name in :mod:`.runner`.
CHECKS = {
    "arithmetic": lambda devices, folder: arithmetic.check_arithmetic(devices),
    "tf32": lambda devices, folder: arithmetic.check_arithmetic(devices, "TF32"),
    "kvstores": lambda devices, folder: data_parallel.check_kvstores(devices),
    "workers": data_parallel.check_workers,
    "float16": lambda devices, folder: data_parallel.check_float16(devices),
    "sync-bn": lambda devices, folder: data_parallel.check_sync_bn(devices),
    "run": whole_run.check_run,
    "speed": whole_run.check_speed,
}


def main(name, kind, numbers, folder):
    # What else is printed is for the account of a failure.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    devices = [mx.Context(kind, int(number)) for number in numbers.split(",")]
    try:
        for check in CHECKS[name](devices, folder):
            print(json.dumps(asdict(check)), file=answers, flush=True)
    except Exception as error:  # whatever it is: the other sections are to be run
        traceback.print_exc()
        text = last_line(error) if str(error) else type(error).__name__
        print(json.dumps(asdict(Check(name, text, FAILED))), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
