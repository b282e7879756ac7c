"""Feed prepared sets to MXNet's own loops: ``Module.fit`` and Gluon's ``DataLoader``."""

import os
from dataclasses import replace
from typing import Any, Optional, Tuple, Union

import numpy as np

from ..errors import DMRError
from ..paper.recipes import CIFAR, OF_DATASET, Recipe
from ..runtime import mx
from .datasets import open_prepared
from .loader import evaluation_batches, training_batches
from .reader import RecordFile


class RecordIter(mx.io.DataIter):
    """Iterate over a split of a prepared set, for ``Module.fit`` and ``Module.score``.

    Training batches have the paper's augmentation and are bit-identical to those of
    :func:`dmr_gluon.fit` with the same recipe, seed, epoch and batch size. Other splits come in
    the order of the records, without augmentation.

    An epoch has every image exactly once, so its last batch may be smaller. ``pad`` is always 0:
    filled up to a full batch, some images would train twice, and ``Module.score`` would count them
    twice. Module binds itself anew to the smaller batch, but divides the sum of gradients by the
    full batch size all the same; ``examples/module_cifar.py`` shows how to divide by the actual
    size.

    Parameters
    ----------
    directory : str
        Folder of a prepared set.
    batch_size : int, optional
        Default: the recipe's.
    split : str
    recipe : Recipe, optional
        Default: the paper's for this data set, and CIFAR's for sets that are not in the paper.
    augment : bool, optional
        Shuffle and augment. Default: only the split ``train``.
    seed, epoch : int
        Determine order and augmentation; ``epoch`` is the first one, counted from 1.
        :meth:`reset` goes to the next one if this one has begun.
    devices : int
        Devices of the Module. A last training batch of fewer images is dropped, as in ``fit``.
    data_name, label_name : str

    Raises
    ------
    DMRError
        For a missing or damaged set, images of another size, and a last batch of an evaluation
        with fewer images than devices.
    """

    def __init__(
        self,
        directory: Union[str, "os.PathLike[str]"],
        batch_size: Optional[int] = None,
        split: str = "train",
        recipe: Optional[Recipe] = None,
        augment: Optional[bool] = None,
        seed: int = 1,
        epoch: int = 1,
        devices: int = 1,
        data_name: str = "data",
        label_name: str = "softmax_label",
    ) -> None:
        prepared = open_prepared(directory)
        recipe = recipe or OF_DATASET.get(prepared.name, CIFAR)
        if batch_size is not None:
            recipe = replace(recipe, batch_size=batch_size)
        super().__init__(recipe.batch_size)
        self.prepared, self.split, self.recipe = prepared, split, recipe
        self.augment = split == "train" if augment is None else augment
        self.seed, self.epoch, self.devices = seed, epoch, devices
        rest = prepared.split(split).count % recipe.batch_size
        if not self.augment and 0 < rest < devices:
            raise DMRError(
                f"batch_size leaves {rest} images of {split} for {devices} devices; change it"
            )
        shape = (recipe.batch_size, 3, recipe.image_size, recipe.image_size)
        self.provide_data = [mx.io.DataDesc(data_name, shape)]
        self.provide_label = [mx.io.DataDesc(label_name, shape[:1], layout="N")]
        self._batch: Any = None
        self._batches = self._open()

    def _open(self):
        """Return the batches of the current epoch; nothing is read before the first one."""
        prepared, recipe = self.prepared, self.recipe
        if not self.augment:
            return evaluation_batches(prepared, recipe, self.split)
        prepared = replace(prepared, splits={"train": prepared.split(self.split)})
        return training_batches(prepared, recipe, self.seed, self.epoch)

    def reset(self) -> None:
        """Go to the start of the next epoch, or stay at that of one that has not begun."""
        if self._batch is not None:
            self._batches.close()
            self._batch = None
            self.epoch += 1
            self._batches = self._open()

    def iter_next(self) -> bool:
        batch = next(self._batches, None)
        if batch is None or len(batch.label) < self.devices:
            return False
        self._batch = batch
        return True

    def getdata(self):
        return [mx.nd.array(self._batch.data)]

    def getlabel(self):
        return [mx.nd.array(self._batch.label)]

    def getpad(self) -> int:
        return 0


class ImageDataset(mx.gluon.data.Dataset):
    """The images of one split of a prepared set, for Gluon's ``DataLoader``.

    An item is an image, (height, width, 3) of uint8 in RGB, and its label, as in
    ``mx.gluon.data.vision.CIFAR10``; so MXNet's transforms apply. Worker processes may share it.

    Parameters
    ----------
    directory : str
        Folder of a prepared set.
    split : str

    Attributes
    ----------
    prepared : RecordDataset
        With the ``classes``, and ``mean`` and ``std`` for normalising.
    split : str

    Raises
    ------
    DMRError
        For a missing or damaged set; a damaged record, when it is read.
    """

    def __init__(self, directory: Union[str, "os.PathLike[str]"], split: str = "train") -> None:
        self.prepared, self.split = open_prepared(directory), split
        self._records = RecordFile(self.prepared.split(split))

    def __len__(self) -> int:
        return self.prepared.split(self.split).count

    def __getitem__(self, index: int) -> Tuple[mx.nd.NDArray, np.int32]:
        (image,), (label,) = self._records.images([range(len(self))[index]])
        return mx.nd.array(image, dtype=np.uint8), np.int32(label)
