"""Draw the figures of a comparison, as bytes and as files.

The same comparison gives the same bytes with the same Matplotlib.
"""

import functools
import io
import os
from dataclasses import dataclass
from typing import Callable

from ...errors import DMRError
from ...paper.recipes import OF_DATASET
from ...runs.reader import Setup
from ...system.files import write_atomically
from ..groups import deviations, published_name
from .curves import draw_curves, has_curves
from .names import digest, file_name, kind_of, slug, training_key, training_title
from .point_by_point import draw_point_by_point
from .points import (
    depth_series,
    draw_depth,
    draw_parameters,
    draw_paths,
    parameter_series,
    path_series,
)
from .style import colours_of, house_style

#: Formats, with the metadata that would otherwise change from day to day.
FORMATS = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
_POINTS = "Marks are means of finished runs, bars standard deviations, dots the runs."
_CAPTIONS = {
    "curves": "Lines are means of finished runs, bands range from the lowest to the highest; thin "
    "lines that end in a cross are unfinished runs.",
    "points": "The line at zero is the mean of our runs, the band the 95% prediction interval of "
    "one more, thin lines are the runs; dots are the other run's points, crosses those outside.",
    "parameters": f"{_POINTS} Methods of Table 3 without a printed size are missing.",
}


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn.

    Parameters
    ----------
    title : str
        What it shows, in one line.
    caption : str
        The meaning of its lines and marks.
    draw : callable
        Returns a Matplotlib Figure.
    """

    title: str
    caption: str
    draw: Callable

    def write(self, *formats):
        """Draw it and return the bytes of a ``png`` or ``svg`` file for each format."""
        contents = []
        with house_style(f"the figure “{self.title}”"):
            figure = self.draw()
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # the same layout in every format
            for kind in formats:
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, facecolor="white", metadata=FORMATS[kind])
                contents.append(buffer.getvalue())
        return contents


def pictures_of(comparison):
    """Return the figures of a comparison for which there is something to show.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    dict of str to Picture
        By names for files. ``curves-...``: losses and errors over the epochs, for each data set
        and number of epochs. Of finished runs, for each way of training: ``depth-...`` if there
        is a curve, ``paths-...`` if there are several path lengths; ``parameters-...`` beside
        Table 3 if the training is the paper's. ``points-...`` for each comparison point by point.
    """
    found = {}
    colours = colours_of(kind_of(group.setup.spec) for group in comparison.groups)
    for groups in _alike(comparison.groups, lambda g: (g.setup.dataset, g.setup.epochs)):
        title = training_title(groups[0].setup)
        if has_curves(groups):
            found[file_name("curves", groups[0].setup)] = Picture(
                f"{title}: training and test over the epochs",
                _CAPTIONS["curves"],
                functools.partial(draw_curves, groups, colours),
            )
        for trained in _alike(groups, training_key):
            for kind, what, series, draw in (
                ("depth", "depth", depth_series, draw_depth),
                ("paths", "average path length", path_series, draw_paths),
                ("parameters", "number of parameters", parameter_series, draw_parameters),
            ):
                if series(trained):
                    reasons = "; ".join(trained[0].deviations)
                    more = f" Not comparable with the paper: {reasons}." if reasons else ""
                    found[_name(found, kind, trained[0])] = Picture(
                        f"{title}: test error against {what}",
                        _CAPTIONS.get(kind, _POINTS) + more,
                        functools.partial(draw, trained, colours),
                    )
    for item in comparison.points:
        kind = f"points-{slug(item.ours.setup.network)}-{slug(item.theirs.name)}"
        name = _name(found, kind, item.ours)
        if name in found:  # another log that is called so
            name = f"{name}-{digest(item.theirs.path)}"
        found[name] = Picture(
            f"{item.title}, point by point",
            _CAPTIONS["points"],
            functools.partial(draw_point_by_point, item, colours),
        )
    return found


def _name(found, kind, group):
    setup = group.setup
    name = file_name(kind, setup)
    # Data set and epochs imply these deviations; the paper's own training has none.
    recipe = OF_DATASET.get(published_name(setup.dataset), setup.recipe)
    usual = deviations(Setup(setup.dataset, setup.network, setup.spec, recipe, setup.epochs))
    if name in found or (group.deviations and group.deviations != usual):
        return f"{name}-{digest(training_key(group))}"
    return name


def _alike(groups, key):
    """Return lists of groups with an equal key, in the order in which they come."""
    found = {}
    for group in groups:
        found.setdefault(key(group), []).append(group)
    return list(found.values())


def write_pictures(comparison, folder):
    """Write all figures of a comparison as PNG and SVG.

    Parameters
    ----------
    comparison : Comparison
    folder : str
        Created if it does not exist.

    Returns
    -------
    list of str
        Paths of the files.

    Raises
    ------
    DMRError
        If nothing can be written.
    """
    paths = []
    try:
        os.makedirs(folder, exist_ok=True)
        for name, picture in pictures_of(comparison).items():
            for kind, content in zip(FORMATS, picture.write(*FORMATS)):
                paths.append(os.path.join(folder, f"{name}.{kind}"))
                write_atomically(paths[-1], content)
    except OSError as error:
        raise DMRError(f"{error.filename} cannot be written ({error.strerror})") from None
    return paths
