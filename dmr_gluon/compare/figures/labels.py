"""Labels beside points that cover neither each other nor the points. Needs no MXNet.

Each label has a number of places about its point, and the choice with the least cost is looked
for, from several beginnings. All lengths in here are points, a 72nd of an inch, from the
figure's lower left corner; a box is left, bottom, right, top; a leader, the thin line from a
label to its point, is x, y, x, y.
"""

import itertools

import numpy as np

#: Between a marker's middle and its label, and the same where a leader is needed.
_NEAR, _FAR = 6, (14, 22, 32, 44, 58)
#: The best first: to the right, to the left, above, ...
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
#: Half the side of what a marker covers, and what labels keep free around them.
_MARKER, _SPACE = 3.5, 1.0
_LEADER = "#999999"
#: Costs: of a direction less good, of a leader and each point of its length, of anything that is
#: covered or crossed and each square point of it.
_DIRECTION, _LED, _LENGTH, _COVERED, _AREA = 0.5, 20, 0.5, 100, 10
_BEGINNINGS, _ROUNDS = 60, 8


def place_labels(axes, labels, obstacles, size):
    """Write labels beside their points.

    Parameters
    ----------
    axes : Axes
        In its final place, with its final limits.
    labels : list of (float, float, str, str)
        x, y, text and colour.
    obstacles : list of (float, float, float)
        x, lowest y and highest y of everything that is drawn, the labels' points too.
    size : float
        Of the letters.

    Returns
    -------
    list of Annotation
        In the order of the labels.
    """
    if not labels:
        return []
    points = [_place(axes, x, y) for x, y, _, _ in labels]
    boxes = np.array(
        [_boxes(point, _width(text, size), size) for point, (_, _, text, _) in zip(points, labels)]
    )
    leaders = np.array([_leaders(point, places) for point, places in zip(points, boxes)])
    taken = np.array([_around(axes, *obstacle) for obstacle in obstacles])
    costs = _costs(boxes, leaders, taken, _inside(axes))
    chosen = _choose(costs, _clashes(boxes, leaders))
    return [
        _write(axes, label, point, boxes[n, choice], leaders[n, choice], size)
        for n, (label, point, choice) in enumerate(zip(labels, points, chosen))
    ]


def _place(axes, x, y):
    return axes.transData.transform((x, y)) * 72 / axes.figure.dpi


def _around(axes, x, low, high):
    (left, bottom), (_, top) = _place(axes, x, low), _place(axes, x, high)
    return left - _MARKER, bottom - _MARKER, left + _MARKER, top + _MARKER


def _inside(axes):
    return np.array(axes.bbox.extents) * 72 / axes.figure.dpi


def _width(text, size):
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=size).vertices[:, 0].max()) + 2


def _boxes(point, width, height):
    """Where a label can be written: first near its point, then further away."""
    boxes = []
    for distance, (right, up) in itertools.product((_NEAR, *_FAR), _DIRECTIONS):
        x = point[0] + right * distance - (1 - right) / 2 * width
        # Letters do not fill their height.
        y = point[1] + up * (distance - 1.5) - (1 - up) / 2 * height
        boxes.append((x, y, x + width, y + height))
    return boxes


def _leaders(point, boxes):
    """From each box to what the marker covers; not a number for those that need none."""
    ends = np.clip(point, boxes[:, :2], boxes[:, 2:])
    away = ends - point
    starts = point + away * (1.3 * _MARKER / np.abs(away).max(axis=1))[:, None]
    leaders = np.hstack([ends, starts])
    leaders[: len(_DIRECTIONS)] = np.nan
    return leaders


def _costs(boxes, leaders, taken, inside):
    """Of each place by itself."""
    costs = np.arange(boxes.shape[1]) % len(_DIRECTIONS) * _DIRECTION
    length = np.hypot(*(leaders[..., 2:] - leaders[..., :2]).transpose(2, 0, 1))
    costs = costs + np.where(np.isnan(length), 0, _LED + _LENGTH * length)
    areas = _common(_widened(boxes)[:, :, None], taken)
    costs += (_COVERED * (areas > 0) + _AREA * areas).sum(axis=2)
    costs += _COVERED * _cross(leaders[:, :, None], taken).sum(axis=2)
    whole = np.prod(boxes[..., 2:] - boxes[..., :2], axis=2)
    return costs + _COVERED * _AREA * (whole - _common(boxes, inside) > 0.01)


def _clashes(boxes, leaders):
    """Of each two places together: label, place, other label, other place."""
    costs = []
    for wide, lines in zip(_widened(boxes), leaders):  # all at once would take much memory
        areas = _common(wide[:, None, None], boxes)
        crossed = _cross(lines[:, None, None], boxes)
        costs.append(_COVERED * (areas > 0) + _AREA * areas + _COVERED * crossed)
    costs = np.array(costs)
    return costs + costs.transpose(2, 3, 0, 1)


def _widened(boxes):
    return boxes + np.array([-_SPACE, -_SPACE, _SPACE, _SPACE])


def _common(boxes, others):
    """The areas that boxes share."""
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    return np.prod((high - low).clip(0), axis=-1)


def _cross(lines, boxes):
    """Whether lines meet boxes: those that are no lines don't."""
    along = lines[..., 2:] - lines[..., :2]
    along = np.where(along == 0, 1e-9, along)
    # At which parts of the line it enters and leaves the box's width and height.
    ends = np.stack([(boxes[..., i : i + 2] - lines[..., :2]) / along for i in (0, 2)])
    enters, leaves = ends.min(axis=0).max(axis=-1), ends.max(axis=0).min(axis=-1)
    return (enters <= leaves) & (enters <= 1) & (leaves >= 0)


def _choose(costs, clashes):
    """A place for each label."""
    count = len(costs)
    random = np.random.RandomState(0)
    best, least = None, np.inf
    for _ in range(_BEGINNINGS):
        order = random.permutation(count)
        chosen = {}
        for number in [*order] * _ROUNDS:
            chosen.pop(number, None)
            others = list(chosen)
            together = clashes[number][:, others, [chosen[other] for other in others]]
            chosen[number] = int(np.argmin(costs[number] + together.sum(axis=1)))
        places = [chosen[number] for number in range(count)]
        total = costs[range(count), places].sum()
        total += sum(
            clashes[one, places[one], other, places[other]]
            for one, other in itertools.combinations(range(count), 2)
        )
        if total < least:
            best, least = places, total
    return best


def _write(axes, label, point, box, leader, size):
    x, y, text, colour = label
    if not np.isnan(leader[0]):
        axes.annotate(
            "",
            (x, y),
            leader[:2] - point,
            textcoords="offset points",
            arrowprops={
                "arrowstyle": "-",
                "color": _LEADER,
                "linewidth": 0.4,
                "shrinkA": 0.5,
                "shrinkB": _MARKER,
            },
        )
    return axes.annotate(
        text,
        (x, y),
        (box[0] - point[0], (box[1] + box[3]) / 2 - point[1]),
        textcoords="offset points",
        va="center",
        fontsize=size,
        color=colour,
    )
