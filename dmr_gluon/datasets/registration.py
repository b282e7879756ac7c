"""Describe a data set to ``dmr prepare``."""

from dataclasses import dataclass
from typing import Callable, Tuple

from ..data.datasets import RecordDataset
from .archives import Archive


@dataclass(frozen=True)
class Registration:
    """A data set that ``dmr prepare NAME`` makes; :mod:`.registry` lists all of them.

    Parameters
    ----------
    name : str
    summary : str
        One line for ``dmr prepare --help``.
    prepare : function
        Called with the options that it has as parameters, by name: ``out``, ``overwrite`` and
        those of ``add_flags``; for a set with archives also ``source`` and ``partial``.
    add_flags : function
        Adds the set's own arguments to a parser.
    archives : tuple of Archive
        The published files; downloaded unless the user names a ``--source``.
    source : str
        Describes what ``--source`` may name.
    """

    name: str
    summary: str
    prepare: Callable[..., RecordDataset]
    add_flags: Callable[..., None] = lambda parser: None
    archives: Tuple[Archive, ...] = ()
    source: str = ""
