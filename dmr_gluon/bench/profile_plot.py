"""A profile as a picture: a bar for each kind of operator."""

from ..runs.learning_curve import COLOURS
from .profile import AROUND, BETWEEN, OTHERS

#: What is drawn in one colour: by how the names begin.
_COLOURS = (
    ("convolution", COLOURS[0]),
    ("BN", COLOURS[2]),
    *((kind, "#999999") for kind in (AROUND, BETWEEN, OTHERS)),
)


def draw(title, profile):
    """Draw the shares of a step, the largest first.

    Parameters
    ----------
    title : str
    profile : Profile

    Returns
    -------
    Figure
    """
    from matplotlib.figure import Figure

    kinds = list(profile.parts)
    shares = [100 * max(0.0, profile.share(kind)) for kind in kinds]
    figure = Figure(figsize=(8, 0.34 * len(kinds) + 1.1), dpi=110, constrained_layout=True)
    axes = figure.subplots()
    colours = [
        next((colour for begin, colour in _COLOURS if kind.startswith(begin)), COLOURS[1])
        for kind in kinds
    ]
    axes.barh(kinds, shares, color=colours)
    axes.invert_yaxis()
    for place, (kind, share) in enumerate(zip(kinds, shares)):
        axes.annotate(
            f"{share:.1f}%  {profile.parts[kind]:.2f} ms", (share, place),
            textcoords="offset points", xytext=(4, 0), va="center", fontsize="small",
        )  # fmt: skip
    axes.set(title=f"{title}: {profile.step:.1f} ms", xlabel="percent of a step")
    axes.set_xlim(0, 1.3 * max(shares))
    axes.spines[["top", "right"]].set_visible(False)
    return figure
