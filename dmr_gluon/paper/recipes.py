"""Training runs as data: one :class:`Recipe` per data set, each field with its source.

The command-line flags of the training scripts are made from these fields.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Dict, Optional, Tuple

from ..errors import DMRError
from ..models.spec import tuples_from_lists
from ..system.settings import check_settings, check_types, setting

#: How gradients may be summed: over the devices of a process; dist_sync over workers too.
KVSTORES = ("device", "local", "nccl", "dist_sync")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a training run, but for its seed."""

    name: str
    model: str = setting("network to train, such as cifar_dmrnet56 or dmrnet44", "Tables 2-4")
    epochs: int = setting(
        "passes over the training images", "sections 4.2 (400; SVHN 40) and 4.5 (100)", least=1
    )
    batch_size: int = setting(
        "images per step over all devices", "sections 4.2 (64) and 4.5 (256)", least=1
    )
    lr: float = setting("learning rate at the start", "sections 4.2 and 4.5", above=0)
    lr_drops: Tuple[float, ...] = setting(
        "fractions of the run at which the learning rate drops",
        "section 4.2 (1/2, 3/4, 7/8) and 4.5 (every 30 of 100 epochs)",
        above=0,
        most=1,
    )
    lr_factor: float = setting(
        "what the learning rate is multiplied by at a drop", "sections 4.2 and 4.5", above=0, most=1
    )
    momentum: float = setting("momentum", "sections 4.2 and 4.5", least=0, most=0.9999)
    nesterov: bool = setting(
        "Nesterov momentum as MXNet had it in 2016, learning rate outside the momentum",
        "section 4.2; plain momentum in section 4.5, as [7]",
    )
    weight_decay: float = setting(
        "weight decay, on every parameter",
        "sections 4.2 and 4.5; on every one: authors' code",
        least=0,
    )
    image_size: int = setting(
        "height and width of the network's input", "sections 4.1 (32) and 4.5 (224)", least=8
    )
    pad: int = setting(
        "zeros around a training image, after normalising, before the random crop",
        "section 4.1 (4; none for SVHN)",
        least=0,
        most=32,
    )
    mirror: bool = setting(
        "mirror half of the training images", "sections 4.1 (not SVHN) and 4.5, as [7]"
    )
    train_short_side: Optional[Tuple[int, ...]] = setting(
        "shorter side of a training image before the random crop, drawn between two numbers",
        "[7]: 256 to 480; none for images that are taken whole",
        least=8,
    )
    eval_short_side: Optional[int] = setting(
        "shorter side of a test image before the centre crop",
        "section 4.5 (256); none for images that are taken whole",
        least=8,
    )
    pca_noise: float = setting(
        "standard deviation of the colour noise along the principal components",
        "[7]: the standard colour augmentation (0.1); none for 32x32 images",
        least=0,
        most=1,
    )
    aspect_change: float = setting(
        "most by which a training image's sides are stretched against each other, 0.25 for "
        "between 3:4 and 5:4",
        "authors' code, ImageNet (0.25)",
        default=0.0,
        least=0,
        most=0.9,
    )
    colour_shift: Tuple[int, ...] = setting(
        "most by which hue (0-180), saturation and lightness (0-255) of a training image move",
        "authors' code, ImageNet (36,50,50)",
        default=(0, 0, 0),
        least=0,
        most=255,
    )
    shuffle_chunk: Optional[int] = setting(
        "shuffle only within chunks of so many records, in the order of the file; none: the whole "
        "epoch",
        "not in the paper; authors' code: 8 MB of records, as MXNet's ImageRecordIter in 2016; for "
        "CIFAR about 3,500",
        default=None,
        least=1,
        unsaid=True,
    )
    bn_momentum: float = setting(
        "how much of BN's running statistics stays at a step; they only serve to evaluate",
        "not in the paper; authors' code: 0.99 in 2016, 0.9 in 2018",
        default=0.9,
        least=0,
        most=0.9999,
        unsaid=True,
    )
    sync_bn: bool = setting(
        "BN statistics over all devices of this process instead of over each one's images",
        "not in the paper, which has each device's own",
        default=False,
    )
    accumulate: int = setting(
        "parts that each device computes one after the other for one update: a batch of eight "
        "GPUs on one, each part with BN statistics of its own",
        "not in the paper",
        default=1,
        least=1,
    )
    schedule: str = setting(
        "steps: lr_drops; cosine: down to 0 along half a cosine",
        "steps: sections 4.2 and 4.5; cosine: not in the paper",
        default="steps",
        choices=("steps", "cosine"),
    )
    warmup_epochs: float = setting(
        "epochs in which the learning rate rises from 0 along a line",
        "not in the paper",
        default=0.0,
        least=0,
    )
    label_smoothing: float = setting(
        "share of a label's weight that is spread over all classes",
        "not in the paper",
        default=0.0,
        least=0,
        most=0.9,
    )
    ema_decay: float = setting(
        "evaluate and export a running average of the weights with this decay a step; 0: the "
        "weights themselves",
        "not in the paper",
        default=0.0,
        least=0,
        most=0.99999,
    )
    dtype: str = setting(
        "what is computed in; float16 needs GPUs, and keeps weights and BN in float32",
        "float16: not in the paper",
        default="float32",
        choices=("float32", "float16"),
    )
    steps: Optional[int] = setting(
        "updates in the whole run, to try things; none: as many as the epochs have",
        "not in the paper",
        default=None,
        least=1,
    )
    #: How many training images the recipe was published with, where sources differ.
    train_images: Optional[int] = None

    def __post_init__(self):
        check_settings(self)
        if len(self.colour_shift) != 3:
            raise DMRError(f"colour_shift must be three numbers, not {self.colour_shift}")
        if self.colour_shift[0] > 180:
            raise DMRError(f"colour_shift's hue must be at most 180, not {self.colour_shift[0]}")
        if self.warmup_epochs >= self.epochs:
            raise DMRError(f"warmup_epochs {self.warmup_epochs:g} leaves none of {self.epochs}")
        if (self.train_short_side is None) != (self.eval_short_side is None):
            raise DMRError("give both train_short_side and eval_short_side, or neither")
        if self.train_short_side is None:
            for name in ("pca_noise", "aspect_change", "colour_shift"):
                if getattr(self, name) not in (0, (0, 0, 0)):
                    raise DMRError(f"{name} needs train_short_side (images that are scaled)")
            return
        if len(self.train_short_side) != 2 or self.train_short_side[0] > self.train_short_side[1]:
            raise DMRError(
                f"train_short_side must be two numbers, the smaller first, "
                f"not {self.train_short_side}"
            )
        if self.pad:
            raise DMRError(
                "pad is for images that are taken whole, not scaled; set pad to 0, or leave out "
                "train_short_side and eval_short_side"
            )
        assert self.eval_short_side is not None  # both or neither, see above
        smallest = min(self.train_short_side[0], self.eval_short_side)
        if smallest < self.image_size:
            raise DMRError(
                f"a shorter side of {smallest} is too small to crop {self.image_size} x "
                f"{self.image_size} from; lower image_size or raise train_short_side and "
                f"eval_short_side"
            )

    @classmethod
    def from_json(cls, values: Dict[str, Any]) -> "Recipe":
        """A recipe from what ``dataclasses.asdict`` and JSON made of it.

        Raises
        ------
        DMRError
            For fields that are unknown, missing or of another type.
        """
        try:
            recipe = cls(**tuples_from_lists(values))
            check_types(recipe)
        except (TypeError, AttributeError) as error:
            raise DMRError(
                f"the recipe was not written by this version of dmr-gluon: {error}"
            ) from error
        return recipe


CIFAR = Recipe(
    name="cifar",
    model="cifar_dmrnet56",
    epochs=400,
    batch_size=64,
    lr=0.1,
    lr_drops=(1 / 2, 3 / 4, 7 / 8),
    lr_factor=0.1,
    momentum=0.9,
    nesterov=True,
    weight_decay=1e-4,
    image_size=32,
    pad=4,
    mirror=True,
    train_short_side=None,
    eval_short_side=None,
    pca_noise=0.0,
)

SVHN = replace(CIFAR, name="svhn", epochs=40, pad=0, mirror=False, train_images=598_388)

#: Not in the paper: CIFAR's recipe, short, and without mirroring, which makes other digits.
DIGITS = replace(CIFAR, name="digits", model="cifar_dmrnet14", epochs=20, mirror=False)

IMAGENET = replace(
    CIFAR,
    name="imagenet",
    model="dmrnet44",
    epochs=100,
    batch_size=256,
    lr_drops=(0.3, 0.6, 0.9),
    nesterov=False,
    image_size=224,
    pad=0,
    train_short_side=(256, 480),
    eval_short_side=256,
    pca_noise=0.1,
)

#: By what ``--recipe`` names, then by the recipe's own name. The authors' code trains on CIFAR
#: as the paper says, and decides what that leaves open; what differs in SVHN is also the set of
#: images (``dmr prepare svhn --svhn-split authors``).
RECIPES = {
    "paper": {recipe.name: recipe for recipe in (CIFAR, SVHN, DIGITS, IMAGENET)},
    "authors": {
        # 3,500 of their records are about 8 MB, as many as their reader shuffled at a time.
        "cifar": replace(CIFAR, bn_momentum=0.99, shuffle_chunk=3500),
        "svhn": replace(SVHN, train_images=604_388, bn_momentum=0.99),
        "imagenet": replace(
            IMAGENET,
            bn_momentum=0.99,
            epochs=120,
            lr_drops=(0.25, 0.5, 0.75),
            nesterov=True,
            pca_noise=0.0,
            aspect_change=0.25,
            colour_shift=(36, 50, 50),
        ),
    },
}


#: The paper's recipe for each data set that has one.
OF_DATASET = {
    "cifar10": CIFAR,
    "cifar100": CIFAR,
    "svhn": SVHN,
    "imagenet": IMAGENET,
    "digits": DIGITS,
}


def differences(recipe: Recipe) -> Dict[str, Tuple[Any, Any]]:
    """How a recipe differs from the paper's for the same data.

    Returns
    -------
    dict of str to (value, value)
        For each field that differs, the recipe's value and the paper's; not the model, which
        the paper has many of, nor what the paper leaves open where it is as in the authors' code.
    """
    paper = RECIPES["paper"].get(recipe.name, recipe)
    authors = RECIPES["authors"].get(recipe.name, paper)
    found = {}
    for item in fields(recipe):
        ours, its, theirs = (getattr(one, item.name) for one in (recipe, paper, authors))
        open_ = item.metadata.get("unsaid") and ours == theirs
        if ours != its and item.name != "model" and not open_:
            found[item.name] = ours, its
    return found
