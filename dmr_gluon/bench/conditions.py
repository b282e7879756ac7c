"""What a measurement was made on, and what makes it worth nothing."""

import os
import platform

from ..system.machine import processor, usable_cores
from ..version import __version__

#: Of the cores: more load than this before a measurement makes its numbers low.
_MOST_LOAD = 0.5


def machine():
    """This machine, its software and its load, as a measurement is described with.

    Returns
    -------
    dict
        ``processor``, ``cores``, ``threads`` (OpenMP's, as text), ``load`` (the average of the
        last minute) and ``versions`` by name.
    """
    import cv2
    import numpy

    from ..runtime import mx

    return {
        "processor": processor(),
        "cores": usable_cores(),
        "threads": os.environ["OMP_NUM_THREADS"],
        "load": os.getloadavg()[0],
        "versions": {
            "dmr_gluon": __version__,
            "Python": platform.python_version(),
            "MXNet": mx.__version__,
            "OpenCV": cv2.__version__,
            "NumPy": numpy.__version__,
        },
    }


def describe(found):
    """What :func:`machine` found, in lines."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"{found['cores']} cores ({found['processor']}), {found['threads']} threads, "
        f"load {found['load']:.1f} before",
        versions,
    ]
    if found["load"] > _MOST_LOAD * found["cores"]:
        lines.append(
            f"note: something else is running (load {found['load']:.1f} on {found['cores']} "
            f"cores); the numbers will be low"
        )
    return lines
