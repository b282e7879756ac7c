"""The trainings behind Tables 2 to 5 and Figure 6, as data.

A cell is one network on one data set at one place in the paper. Its network and its results come
from :mod:`.numbers`, its recipe from :mod:`.recipes`.
"""

import functools
import re
from dataclasses import dataclass
from typing import Optional

from ..errors import DMRError
from ..models.names import get_spec
from .numbers import FIGURE6, NETWORKS, TABLE2_ERRORS, TABLE2_L, TABLE3, TABLE4, TABLE5
from .recipes import OF_DATASET, Recipe

_SMALL = ["cifar10", "cifar100", "svhn"]


@dataclass(frozen=True)
class Cell:
    """One network on one data set, at one place in the paper.

    Parameters
    ----------
    place : str
        ``table 2``, ..., ``figure 6``.
    row, column : str
        Such as ``L=54`` and ``dmrnet``.
    dataset : str
    network : str
        A name that :func:`dmr_gluon.models.names.get_spec` reads.
    error, deviation : str, optional
        Published test error and its standard deviation over runs, in percent.
    top5_error, train_error : str, optional
        Published top-5 error and training error in percent.
    """

    place: str
    row: str
    column: str
    dataset: str
    network: str
    error: Optional[str] = None
    deviation: Optional[str] = None
    top5_error: Optional[str] = None
    train_error: Optional[str] = None

    @property
    def recipe(self) -> Recipe:
        """The paper's recipe; its model may be another network."""
        return OF_DATASET[self.dataset]

    @property
    def title(self):
        """Name of the cell in messages."""
        return f"{self.place}, {self.row}, {self.column}, {self.dataset}"

    @property
    def published(self):
        """The published result as text; empty if there is none."""
        deviation = f" ± {self.deviation}" if self.deviation else ""
        top5 = f" (top-5 {self.top5_error})" if self.top5_error else ""
        return f"{self.error or ''}{deviation}{top5}"


def _of(source):
    """Return the specs of the paper's networks whose source is this one or begins with it."""
    found = [item for item in NETWORKS if (item.source + ", ").startswith(source + ", ")]
    return [get_spec(item.name) for item in found]


def _table2():
    for i, layers in enumerate(TABLE2_L):
        for spec in _of(f"Table 2, L = {layers}"):
            for dataset in _SMALL:
                errors = TABLE2_ERRORS[dataset, spec.family][i]
                yield Cell("table 2", f"L={layers}", spec.family, dataset, spec.name, *errors)


def _table3():
    for name, depth, *errors in TABLE3:
        source = "Table 2" if name == "dmrnet" else "Table 3"
        (spec,) = [s for s in _of(source) if s.family == "dmrnet" and s.depth == depth]
        for dataset, error in zip(_SMALL, errors):
            yield Cell("table 3", f"depth={depth}", name, dataset, spec.name, error)


def _table4():
    for spec, (top1, top5, training) in zip(_of("Table 4"), zip(*TABLE4.values())):
        row = f"depth={spec.depth}"
        yield Cell("table 4", row, spec.family, "imagenet", spec.name, top1, None, top5, training)


def _table5():
    for (shared, layers), errors in TABLE5.items():
        sharing = "shared" if shared else "not shared"
        specs = _of(f"Table 5, {sharing}, L = {layers}")
        if shared:  # the paper's own network, from Table 2
            specs += [s for s in _of(f"Table 2, L = {layers}") if s.family == "dmrnet"]
        by_mapping = {spec.mapping: spec for spec in specs}
        row = f"L={layers} {'shared' if shared else 'unshared'}"
        columns = [(d, m) for d in _SMALL[:2] for m in ("identity", "mean")]
        for (dataset, mapping), error in zip(columns, errors):
            column = "dmrnet merge-and-run" if mapping == "mean" else "dmrnet identity"
            yield Cell("table 5", row, column, dataset, by_mapping[mapping].name, error)


def _figure6(lengths=None):
    """Yield the cells of Figure 6, which prints no numbers, by default those in :mod:`.numbers`."""
    known = {int(item.source.split()[-1]) for item in NETWORKS if "Figure 6" in item.source}
    for layers in lengths or sorted(known):
        depth = 2 * layers + 2
        networks = {"plain": f"cifar_plain{depth}"}
        for count, _ in FIGURE6:
            networks[f"resnet {count} blocks"] = f"cifar_resnet{depth}_blocks{count}"
        for column, name in networks.items():
            # The name is shorter where the branches have the usual two layers.
            yield Cell("figure 6", f"L={layers}", column, "cifar10", get_spec(name).name)


_PLACES = {
    "table 2": _table2,
    "table 3": _table3,
    "table 4": _table4,
    "table 5": _table5,
    "figure 6": _figure6,
}


def folder_of(cell):
    """Return the folder of a cell's runs: ``table2``, ..., ``figure6``.

    A network at several places in the paper is trained once, in the folder of the first.
    """
    return _first_places().get((cell.network, cell.dataset), cell.place).replace(" ", "")


@functools.lru_cache(maxsize=None)
def _first_places():
    places = {}
    for cells in _PLACES.values():
        for cell in cells():
            places.setdefault((cell.network, cell.dataset), cell.place)
    return places


def select(place=None, rows=(), datasets=(), networks=()):
    """Select cells of the paper.

    Parameters
    ----------
    place : str, optional
        ``table 2``, ... Default: all.
    rows : sequence of str
        ``L=54`` or ``54``. Figure 6 accepts every L that its networks can have.
    datasets : sequence of str
    networks : sequence of str
        A column, such as ``dmrnet`` or ``merge-and-run``, or the name of a network.

    Returns
    -------
    list of Cell

    Raises
    ------
    DMRError
        If nothing matches; the message lists the choices.
    """
    if place is not None and place not in _PLACES:
        raise DMRError(f"no experiments for {place}; there are {', '.join(_PLACES)}")
    cells = [cell for name in ([place] if place else _PLACES) for cell in _PLACES[name]()]
    where = (place or "the paper").capitalize()
    if place == "figure 6" and rows:
        lengths = [int(number) for row in rows for number in re.findall(r"\d+", row)]
        cells = list(_figure6(dict.fromkeys(lengths)))
    for kind, asked, label in (
        ("data set", datasets, lambda cell: cell.dataset),
        ("row", rows, lambda cell: cell.row),
        ("network", networks, lambda cell: cell.column),
    ):
        cells = _filtered(cells, where, kind, asked, label)
    return cells


def _filtered(cells, where, kind, asked, label):
    """Return the cells whose label, or network, is one of those asked for; all if none are."""
    kept = []
    for text in asked:
        words = _words(text)
        exact = [c for c in cells if text == label(c) or (kind == "network" and text == c.network)]
        found = exact or [c for c in cells if words and words <= _words(label(c))]
        if not found:
            there = ", ".join(dict.fromkeys(map(label, cells)))
            raise DMRError(f"{where} has no {kind} {text!r} here; there are {there}")
        kept += found
    return [cell for cell in cells if cell in kept] if asked else cells


def _words(text):
    """Split ``L=54`` into {"l", "54"}, ignoring punctuation."""
    return set(re.findall(r"[a-z]+|\d+", text.lower()))
