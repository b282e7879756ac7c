"""A prediction as a picture: efficiency against devices, and what a step waits for."""

from ..runs.learning_curve import COLOURS

#: The parts of a step that are drawn, from below, with the colour of each.
PARTS = (("compute", COLOURS[0]), ("waiting for sums", COLOURS[1]), ("reading", COLOURS[4]))


def parts_of(step):
    """Milliseconds of a step's parts as they follow each other: :data:`PARTS`."""
    waiting = step.within + step.between - step.hidden
    computing = step.compute + waiting
    return [1000 * part for part in (step.compute, waiting, max(0, step.seconds - computing))]


def draw(title, steps):
    """Draw predicted steps.

    Parameters
    ----------
    title : str
    steps : list of Step

    Returns
    -------
    Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), dpi=110, constrained_layout=True)
    figure.suptitle(f"{title} (predicted, not measured)")
    left, right = figure.subplots(1, 2)
    devices = [step.devices for step in steps]
    places = range(len(steps))
    efficiencies = [100 * step.efficiency for step in steps]
    left.plot(places, efficiencies, "o-", color=COLOURS[0])
    for place, value in zip(places, efficiencies):
        left.annotate(
            f"{value:.0f}%", (place, value), textcoords="offset points", xytext=(0, 7), ha="center"
        )
    left.set(ylabel="efficiency, percent", ylim=(0, 112))
    below = [0.0] * len(steps)
    for (name, colour), values in zip(PARTS, zip(*map(parts_of, steps))):
        right.bar(places, values, bottom=below, label=name, color=colour, width=0.6)
        below = [a + b for a, b in zip(below, values)]
    right.set(ylabel="milliseconds of a step", ylim=(0, 1.25 * max(below)))
    right.legend(frameon=False, fontsize="small", ncol=3, loc="upper center")
    for axes in (left, right):
        axes.set(xlabel="devices", xticks=list(places), xticklabels=devices)
        axes.set_xlim(-0.6, len(steps) - 0.4)
        axes.grid(alpha=0.3, axis="y")
        axes.spines[["top", "right"]].set_visible(False)
    return figure
