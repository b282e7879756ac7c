"""Format the table of a bundle's variants, ``forms.md``."""

import os

from ..system.machine import processor, usable_cores
from ..system.text_tables import markdown_table


def variants_table(network, variants):
    """Format the measurements of ``dmr export --all`` as Markdown.

    Parameters
    ----------
    network : str
        The network's name.
    variants : dict
        The ``forms`` of ``bundle.json``, each with its ``speed``.

    Returns
    -------
    str
    """
    rows = []
    for name, entry in variants.items():
        compared, speed = entry["compared"], entry["speed"]
        error = compared["error"]
        rows.append(
            (
                name,
                f"{entry['megabytes']:.2f}",
                *(f"{speed['images_per_second'][size]:,.0f}" for size in (1, 32)),
                *(f"{speed['ratio'][size]:.2f}" for size in (1, 32)),
                f"{speed['p50']:.2f}",
                f"{speed['p95']:.2f}",
                "" if error is None else f"{error:.2f}",
                compared["another_class"],
                f"{compared['largest_difference']:.1e}",
            )
        )
    header = (
        "form", "MB", "images/s, 1", "images/s, 32", "by plain, 1", "by plain, 32",
        "p50 ms", "p95 ms", "error %", "other class", "largest difference",
    )  # fmt: skip
    return (
        f"# Forms of {network}\n\n"
        f"{markdown_table(header, rows, range(1, len(header)))}\n\n"
        f"Images per second in batches of 1 and of 32, and their ratio to plain, round by round; "
        f"latency of one image, median and 95th percentile; error, images of another class than "
        f"the network's, and largest difference of logits on {compared['images']:,} images. "
        f"{usable_cores()} cores ({processor()}), {os.environ.get('OMP_NUM_THREADS')} threads."
    )
