"""What a training of the paper needs of a machine, beside what :mod:`.facts` finds there."""

import os

from ..data.datasets import preparing_command
from ..datasets.registry import DATASETS
from ..errors import DMRError
from ..models.names import network
from ..paper.dataset_facts import PUBLISHED
from ..paper.recipes import OF_DATASET
from .findings import (
    OK,
    PROBLEM,
    WARNING,
    Finding,
    gigabytes,
)

#: Bytes of a record of a 32x32 image (docs/data.md).
_SMALL_RECORD = 3_204
#: Images of the digits.
_DIGITS = 1_797
#: Of the training's process: what MXNet, the reading of images and Python take, and what each
#: value of the convolutions' outputs takes, forwards and backwards; fitted to what ``dmr bench
#: --only memory`` measured, and rounded up.
_BASE, _PER_ACTIVATION = 380_000_000, 8.5
#: Arrays as large as the parameters: weights, gradients, momentum, and a checkpoint in the making.
_COPIES = 6


class Needs:
    """A training and what it takes.

    Parameters
    ----------
    dataset : str
        One of :data:`.recipes.OF_DATASET`.
    model : str, optional
        Default: the recipe's.
    batch_size : int, optional
        Default: the recipe's.

    Raises
    ------
    DMRError
        For a data set or network that there is not.
    """

    def __init__(self, dataset, model=None, batch_size=None):
        if dataset not in OF_DATASET:
            raise DMRError(f"--recipe {dataset}: there are {', '.join(OF_DATASET)}")
        recipe = OF_DATASET[dataset]
        self.dataset, self.model = dataset, model or recipe.model
        self.image_size = recipe.image_size
        network(self.model)  # refuses what there is not
        script = recipe.name if recipe.name in ("svhn", "imagenet") else "cifar"
        self._training = f"python train_{script}.py --dataset {dataset} --model {self.model}"
        self.batch_size = batch_size or recipe.batch_size

    def memory(self, sizes):
        """Bytes of a training on the CPU.

        Parameters
        ----------
        sizes : dict
            ``parameters`` and ``activations`` of an image, as the probe counts them.
        """
        return (
            _BASE
            + sizes["activations"] * self.batch_size * _PER_ACTIVATION
            + sizes["parameters"] * 4 * _COPIES
        )

    @staticmethod
    def disk(sizes):
        """Bytes that a run keeps: its two last checkpoints, the best one and one that is being
        written, each with weights and momentum; and two models."""
        return sizes["parameters"] * 4 * (4 * 2 + 2)

    def judge(self, facts):
        """Whether the machine has it.

        Parameters
        ----------
        facts : dict
            As :func:`.facts.gather` returns it, with this network's sizes.

        Returns
        -------
        list of Finding
        """
        return [*self._data(facts), *self._memory(facts), *self._disk(facts)]

    def _data(self, facts):
        root = facts["data"]["root"]
        if any(one["name"] == self.dataset for one in facts["data"]["sets"]):
            return
        command = preparing_command(os.path.join(root, self.dataset), self.dataset)
        prepared, archives = self._sizes()
        text = f"{self.dataset} is not prepared in {root}; it takes {gigabytes(prepared)}"
        if archives:
            text += f", and its archives, which are downloaded there, {gigabytes(archives)}"
        free = facts["disk"]["data"]["free"]
        if prepared + archives > free:
            yield Finding(PROBLEM, "data", f"{text}; {gigabytes(free)} are free", "make room")
        else:
            yield Finding(WARNING, "data", text, command)

    def _sizes(self):
        """Bytes of the prepared set, and of what is downloaded for it."""
        published = PUBLISHED.get(self.dataset)
        if published is None:
            return _DIGITS * _SMALL_RECORD, 0
        named = [archive for archive in DATASETS[self.dataset].archives if not archive.alternative]
        archives = sum(archive.bytes or 0 for archive in named)
        if self.dataset == "imagenet":  # its JPEGs are kept, its archives not downloaded
            return archives, 0
        return (published.train_images + published.test_images) * _SMALL_RECORD, archives

    def _memory(self, facts):
        sizes = facts["mxnet"].get("network")
        if not sizes:
            return
        need, available = self.memory(sizes), facts["memory"]["available"]
        text = (
            f"training {self.model} with {self.batch_size} images a step on the CPU takes about "
            f"{gigabytes(need)} (estimated); {gigabytes(available)} are available"
        )
        if need <= available:
            yield Finding(OK, "memory", text)
        elif "ok" in (facts["mxnet"].get("gpus") or {}).values():
            yield Finding(OK, "memory", f"{text}; on GPUs, theirs decides, which is not estimated")
        else:
            batch = f"--batch-size {self.batch_size} --accumulate 2"
            mend = f"{self._training} {batch} (the same step in two parts, or in 4, ...)"
            yield Finding(PROBLEM, "memory", text, mend)

    def _disk(self, facts):
        sizes = facts["mxnet"].get("network")
        if not sizes:
            return
        need, free = self.disk(sizes), facts["disk"]["runs"]["free"]
        text = f"a run keeps {gigabytes(need)}; {gigabytes(free)} are free"
        if need > free:
            yield Finding(PROBLEM, "disk", text, "make room, or name another --run-dir")
        else:
            yield Finding(OK, "disk", text)
