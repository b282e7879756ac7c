"""Draw the figures of a comparison, as bytes and as files.

The same comparison and Matplotlib give the same bytes.
"""

import functools
import io
import os
import re
from dataclasses import dataclass
from typing import Callable

from ...errors import DMRError
from ...runs.learning_curve import own_settings
from ...system.files import write_atomically
from .curves import draw_curves, has_curves
from .errors import depth_series, draw_depth, draw_paths, path_series
from .names import training_title
from .point_by_point import draw_point_by_point
from .style import SETTINGS, colours_of

#: Formats, and the metadata to leave out, which changes from day to day.
FORMATS = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn.

    Parameters
    ----------
    title : str
        One line.
    draw : callable
        Returns a Matplotlib Figure.
    """

    title: str
    draw: Callable

    @functools.cached_property
    def _figure(self):
        """The figure, laid out once: the layout is the same in every format."""
        figure = self.draw()
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return figure

    def content(self, kind):
        """Return the bytes of a ``png`` or ``svg`` file."""
        buffer = io.BytesIO()
        with own_settings(SETTINGS, f"the figure “{self.title}”"):
            self._figure.savefig(buffer, format=kind, facecolor="white", metadata=FORMATS[kind])
        return buffer.getvalue()


def pictures_of(comparison):
    """Return the figures of a comparison that have something to show.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    dict of str to Picture
        By file names. ``curves-...`` for each data set and number of epochs. For finished runs
        trained in one way, ``depth-...`` if there is a curve, and ``paths-...`` if there are
        several path lengths. ``points-...`` for each comparison point by point.
    """
    found, colours = {}, colours_of(comparison.groups)
    for groups in _alike(comparison.groups, lambda g: (g.setup.dataset, g.setup.epochs)):
        setup, title = groups[0].setup, training_title(groups[0].setup)
        if has_curves(groups):
            draw = functools.partial(draw_curves, groups, colours)
            found[_file_name(found, "curves", setup)] = Picture(f"{title}: learning curves", draw)
        for trained in _alike(groups, _training_of):
            for kind, against, series, draw in (
                ("depth", "depth", depth_series, draw_depth),
                ("paths", "average path length", path_series, draw_paths),
            ):
                if series(trained):
                    draw = functools.partial(draw, trained, colours)
                    picture = Picture(f"{title}: test error against {against}", draw)
                    found[_file_name(found, kind, setup)] = picture
    for item in comparison.points:
        kind = f"points-{item.ours.setup.network}-{item.theirs.name}"
        draw = functools.partial(draw_point_by_point, item, colours)
        found[_file_name(found, kind, item.ours.setup)] = Picture(item.title, draw)
    return found


def _alike(groups, key):
    """Return lists of groups with an equal key, in their order."""
    found = {}
    for group in groups:
        found.setdefault(key(group), []).append(group)
    return list(found.values())


def _training_of(group):
    """Return what groups in one curve have in common; None for the paper's training."""
    if not group.deviations:
        return None
    recipe = {**vars(group.setup.recipe), "name": None, "model": None}
    return repr((group.deviations, recipe, sorted(group.setup.images.items())))


def _file_name(found, kind, setup):
    """Return a name such as ``curves-cifar10-400-epochs``, with a number if it is taken."""
    parts = (re.sub(r"[^a-z0-9_]+", "-", text.lower()) for text in (kind, setup.dataset))
    name = "-".join([*(part[:60].strip("-") for part in parts), f"{setup.epochs}-epochs"])
    number = sum(re.fullmatch(name + r"(-\d+)?", other) is not None for other in found)
    return f"{name}-{number + 1}" if number else name


def write_pictures(pictures, folder):
    """Write figures as PNG and SVG.

    Parameters
    ----------
    pictures : dict of str to Picture
        By file names.
    folder : str
        Created if it does not exist.

    Returns
    -------
    list of str
        Paths of the files.

    Raises
    ------
    DMRError
        If a file cannot be written.
    """
    paths = []
    try:
        os.makedirs(folder, exist_ok=True)
        for name, picture in pictures.items():
            for kind in FORMATS:
                paths.append(os.path.join(folder, f"{name}.{kind}"))
                write_atomically(paths[-1], picture.content(kind))
    except OSError as error:
        raise DMRError(f"{error.filename} cannot be written ({error.strerror})") from None
    return paths
