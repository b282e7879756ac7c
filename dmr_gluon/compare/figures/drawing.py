"""The pictures of a comparison: what there is to show, drawn, as bytes and as files.

The same comparison gives the same bytes with the same matplotlib.
"""

import functools
import io
import os
from dataclasses import dataclass
from typing import Callable

from ...errors import DMRError
from ...runs.training_run import Setup
from ...system.files import write_atomically
from ..groups import departures
from .curves import draw_curves, pages_of
from .names import digest, file_name, kind_of_group, slug, training_key, training_title
from .parameters import draw_parameters, parameter_groups
from .point_by_point import draw_point_by_point
from .points import depth_series, draw_depth, draw_paths, path_series
from .style import colours_of, house_style, settle

#: What a picture can be written as, with what would otherwise change from day to day.
KINDS = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None},
}
#: What lines and marks are, by kind of picture.
_POINTS = "Marks are means of finished runs, bars standard deviations, dots the runs."
_CAPTIONS = {
    "curves": "Lines are means of finished runs, bands go from the lowest to the highest of them; "
    "thin lines that end in a cross are runs that have not finished.",
    "depth": _POINTS,
    "paths": _POINTS,
    "points": "The line is our runs' mean, the band where one more run of ours is to be expected "
    "with 95%, thin lines are the runs; dots are the other run's points, crosses those outside.",
    "parameters": f"{_POINTS} Methods of Table 3 whose size it does not print are not there.",
}


@dataclass(frozen=True)
class Picture:
    """One picture; called, it is drawn.

    Parameters
    ----------
    title : str
        What it shows, in one line.
    caption : str
        What its lines and marks are.
    draw : callable
        Gives a matplotlib Figure.
    """

    title: str
    caption: str
    draw: Callable

    def __call__(self):
        with house_style(f"the picture “{self.title}”"):
            figure = self.draw()
            settle(figure)
        return figure


def pictures_of(comparison):
    """The pictures for which there is something to show.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    dict of str to Picture
        By names that can stand in a file's. ``curves-...``: losses and errors over the epochs,
        for each data set and number of epochs. Of finished runs, for each way of training:
        ``depth-...`` where there is a curve, ``paths-...`` where there are several path lengths.
        ``parameters-...`` beside Table 3 where the training is the paper's.
    """
    found = {}
    colours = colours_of(map(kind_of_group, comparison.groups))
    for groups in _alike(comparison.groups, lambda g: (g.setup.dataset, g.setup.epochs)):
        title = training_title(groups[0].setup)
        pages = pages_of(groups)
        for number, rows in enumerate(pages, start=1):
            name, part = file_name("curves", groups[0].setup), ""
            if len(pages) > 1:
                name, part = f"{name}-{number}", f", {number} of {len(pages)}"
            found[name] = Picture(
                f"{title}: training and test over the epochs{part}",
                _CAPTIONS["curves"],
                functools.partial(draw_curves, rows, colours),
            )
        for trained in _alike(groups, training_key):
            _add_points(found, title, trained, colours)
    for item in comparison.points:
        kind = f"points-{slug(item.ours.setup.network)}-{slug(item.theirs.name)}"
        name, title = _name(found, kind, item.ours), f"{item.title}, point by point"
        if name in found:  # another log that is called so
            name, title = f"{name}-{digest(item.theirs.path)}", f"{title} ({item.theirs.path})"
        found[name] = Picture(
            title,
            _CAPTIONS["points"],
            functools.partial(draw_point_by_point, item, colours),
        )
    return found


def _add_points(found, title, groups, colours):
    """Those of groups whose results can stand in one curve."""
    for kind, what, series, draw in (
        ("depth", "depth", depth_series, draw_depth),
        ("paths", "average path length", path_series, draw_paths),
        ("parameters", "number of parameters", parameter_groups, draw_parameters),
    ):
        if series(groups):
            found[_name(found, kind, groups[0])] = Picture(
                f"{title}: test error against {what}",
                _CAPTIONS[kind],
                functools.partial(draw, groups, colours),
            )


def _name(found, kind, group):
    setup = group.setup
    name = file_name(kind, setup)
    # What data set and epochs imply; the paper's own training has none.
    usual = departures(Setup(setup.dataset, setup.network, epochs=setup.epochs))
    if name in found or (group.departures and group.departures != usual):
        return f"{name}-{digest(training_key(group))}"
    return name


def _alike(groups, key):
    """Groups with an equal key together, in the order in which they come."""
    found = {}
    for group in groups:
        found.setdefault(key(group), []).append(group)
    return list(found.values())


def write_pictures(comparison, folder, kinds=("png", "svg")):
    """Write all pictures of a comparison.

    Parameters
    ----------
    comparison : Comparison
    folder : str
        Made where it is not there.
    kinds : sequence of str
        Of ``png``, ``svg`` and ``pdf``.

    Returns
    -------
    list of str
        Paths of the files.

    Raises
    ------
    DMRError
        For another kind, or where nothing can be written.
    """
    for kind in kinds:
        _check(kind)
    paths = []
    try:
        os.makedirs(folder, exist_ok=True)
        for name, picture in pictures_of(comparison).items():
            figure = picture()
            for kind in kinds:
                paths.append(os.path.join(folder, f"{name}.{kind}"))
                write_atomically(paths[-1], as_bytes(figure, kind))
    except OSError as error:
        raise DMRError(f"{error.filename} cannot be written ({error.strerror})") from None
    return paths


def as_bytes(figure, kind):
    """A figure as the content of a file.

    Parameters
    ----------
    figure : Figure
        As a picture gives it.
    kind : str
        ``png``, ``svg`` or ``pdf``.

    Raises
    ------
    DMRError
        For another kind.
    """
    _check(kind)
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format=kind, dpi=300, facecolor="white", metadata=KINDS[kind])
    return buffer.getvalue()


def _check(kind):
    if kind not in KINDS:
        raise DMRError(f"a picture cannot be written as {kind!r}; there are {', '.join(KINDS)}")
