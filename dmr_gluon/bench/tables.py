"""What was measured, as text, and as a picture."""

import statistics
from collections import Counter

from ..runs.learning_curve import COLOURS
from ..system.text_tables import text_table


def speed_table(speeds):
    """One line for each network, form and batch size.

    Parameters
    ----------
    speeds : list of Measured

    Returns
    -------
    str
    """
    rows = [
        (
            one.network,
            one.work,
            one.form,
            one.batch,
            f"{one.images_per_second:,.0f}",
            "" if one.share is None else f"{100 * one.share:.0f}%",
        )
        for one in speeds
    ]
    header = ("network", "work", "form", "batch", "images/s", "of the peak")
    return text_table(header, rows, (3, 4, 5))


def step_table(steps):
    """The time until the first training step is done, and the memory of training.

    Parameters
    ----------
    steps : list of dict
        As :func:`.speeds.measure_network` gives them, at least one with one of both.

    Returns
    -------
    str
    """
    columns = [("network", lambda step: step["network"]), ("batch", lambda step: step["batch"])]
    if "seconds_to_first" in steps[0]:
        text = "first training step, s"
        columns.append((text, lambda step: f"{statistics.median(step['seconds_to_first']):.2f}"))
    for key, text in (
        ("peak_bytes", "peak memory, MB"),
        ("start_bytes", "of it before, MB"),
        ("gpu_bytes", "on the GPU, MB"),
    ):
        if key in steps[0]:
            columns.append((text, lambda step, key=key: f"{step[key] / 1e6:,.0f}"))
    header, values = zip(*columns)
    rows = [[value(step) for value in values] for step in steps]
    return text_table(header, rows, range(1, len(header)))


def draw_speeds(speeds):
    """Bars of images per second: networks below each other, kinds of work side by side.

    Parameters
    ----------
    speeds : list of Measured

    Returns
    -------
    Figure
    """
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(one.network for one in speeds))
    forms = list(dict.fromkeys(one.form for one in speeds))
    most = max(Counter((one.network, one.work, one.batch) for one in speeds).values())
    # The smaller batch of inference is always 1; the larger ones differ between networks.
    works = list(dict.fromkeys((one.work, one.batch == 1) for one in speeds))
    size = (4.4 * len(works), 0.4 + 2.2 * len(networks))
    figure = Figure(figsize=size, dpi=120, constrained_layout=True)
    grid = figure.subplots(len(networks), len(works), squeeze=False)
    for network, line in zip(networks, grid):
        for work, axes in zip(works, line):
            these = [
                one for one in speeds if (one.network, one.work, one.batch == 1) == (network, *work)
            ]
            if not these:
                axes.set_axis_off()
                continue
            bars = axes.barh(
                [one.form for one in these],
                [one.images_per_second for one in these],
                color=[COLOURS[forms.index(one.form) % len(COLOURS)] for one in these],
            )
            texts = [
                f"{one.images_per_second:,.0f}"
                + ("" if one.share is None else f"  ({100 * one.share:.0f}%)")
                for one in these
            ]
            axes.bar_label(bars, texts, padding=3, fontsize="small")
            axes.margins(x=0.35)
            axes.set_ylim(most - 0.5, -0.5)
            axes.set_title(f"{network}: {work[0]}, batch {these[0].batch}", fontsize="medium")
            axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("images per second (part of the arithmetic peak)")
    return figure
