"""Prepared data sets: open, read, augment and verify them."""

from typing import TYPE_CHECKING

__all__ = ["ImageDataset", "RecordIter"]

if TYPE_CHECKING:
    from .adapters import ImageDataset as ImageDataset
    from .adapters import RecordIter as RecordIter
else:

    def __getattr__(name):  # only these need MXNet
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import adapters

        return getattr(adapters, name)
