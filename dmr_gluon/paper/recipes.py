"""Training recipes of the paper and of its authors, with a source for every field.

The flags of the training scripts are generated from the fields of :class:`Recipe`.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Dict, Optional, Tuple

from ..errors import DMRError
from ..models.spec import tuples_from_lists
from ..system.settings import check_settings, check_types, setting

#: Ways to sum gradients over the devices of a process; dist_sync also sums over workers.
KVSTORES = ("device", "local", "nccl", "dist_sync")


def _extra(text: str, default: Any, **limits: Any) -> Any:
    """Declare a setting that the paper does not have."""
    return setting(text, "not in the paper", default, **limits)


@dataclass(frozen=True)
class Recipe:
    """All settings that determine the result of a training run, except its seed.

    Each field has a help text, a source and limits (:func:`~dmr_gluon.system.settings.setting`).
    Values that are out of range or contradict each other raise DMRError.
    """

    name: str
    model: str = setting("network to train, such as cifar_dmrnet56 or dmrnet44", "Tables 2-4")
    epochs: int = setting(
        "passes over the training images", "sections 4.2 (400; SVHN 40) and 4.5 (100)", least=1
    )
    batch_size: int = setting(
        "images per step over all devices", "sections 4.2 (64) and 4.5 (256)", least=1
    )
    lr: float = setting("initial learning rate", "sections 4.2 and 4.5", above=0)
    lr_drops: Tuple[float, ...] = setting(
        "fractions of the run after which the learning rate drops",
        "section 4.2 (1/2, 3/4, 7/8) and 4.5 (every 30 of 100 epochs)",
        above=0,
        most=1,
    )
    lr_factor: float = setting(
        "factor of the learning rate at every drop", "sections 4.2 and 4.5", above=0, most=1
    )
    momentum: float = setting("momentum", "sections 4.2 and 4.5", least=0, most=0.9999)
    nesterov: bool = setting(
        "Nesterov momentum as in MXNet of 2016, with the learning rate outside the momentum",
        "section 4.2; plain momentum in section 4.5, as [7]",
    )
    weight_decay: float = setting(
        "weight decay of all parameters, BN's included", "sections 4.2, 4.5; authors' code", least=0
    )
    image_size: int = setting(
        "height and width of the network's input", "sections 4.1 (32) and 4.5 (224)", least=8
    )
    pad: int = setting(
        "zero padding before the random crop", "section 4.1 (4; none for SVHN)", least=0, most=32
    )
    mirror: bool = setting(
        "mirror training images with probability 1/2", "sections 4.1 (not SVHN) and 4.5, as [7]"
    )
    train_short_side: Optional[Tuple[int, ...]] = setting(
        "range of a training image's shorter side", "[7] (256 to 480); none: not scaled", least=8
    )
    eval_short_side: Optional[int] = setting(
        "shorter side of a test image", "section 4.5 (256); none: not scaled", least=8
    )
    pca_noise: float = setting(
        "standard deviation of the PCA colour noise", "[7] (0.1 for ImageNet)", least=0, most=1
    )
    aspect_change: float = setting(
        "largest change of aspect ratio", "authors' code (0.25)", default=0.0, least=0, most=0.9
    )
    colour_shift: Tuple[int, ...] = setting(
        "largest shift of hue (0-180), saturation and lightness (0-255)",
        "authors' code, ImageNet (36,50,50)",
        default=(0, 0, 0),
        least=0,
        most=255,
    )
    crop_area: Optional[Tuple[float, ...]] = _extra(
        "range of random resized crops' area, relative to the image; replaces train_short_side",
        None,
        above=0,
        most=1,
    )
    shuffle_chunk: Optional[int] = setting(
        "shuffle only within chunks of this many records; none: shuffle the whole epoch",
        "not in the paper; authors' code: chunks of 8 MB, about 3,500 records of CIFAR",
        default=None,
        least=1,
        unsaid=True,
    )
    bn_momentum: float = setting(
        "momentum of BN's running statistics, which are used in evaluation only",
        "not in the paper; authors' code: 0.99 in 2016, 0.9 in 2018",
        default=0.9,
        least=0,
        most=0.9999,
        unsaid=True,
    )
    sync_bn: bool = _extra("BN statistics over all devices of the process", False)
    accumulate: int = _extra("gradient accumulation: parts of a device's batch", 1, least=1)
    schedule: str = setting(
        "learning rate schedule: steps (lr_drops) or cosine (half a period, down to 0)",
        "steps: sections 4.2 and 4.5; cosine: not in the paper",
        default="steps",
        choices=("steps", "cosine"),
    )
    warmup_epochs: float = _extra("epochs of linear learning rate warm-up", 0.0, least=0)
    label_smoothing: float = _extra("weight of label smoothing", 0.0, least=0, most=0.9)
    mixup: float = _extra("alpha of mixup, which blends pairs of images", 0.0, least=0)
    class_weights: bool = _extra("weight losses by the inverse frequency of their class", False)
    freeze: Tuple[str, ...] = _extra(
        "parts that are not trained: stem, stage1, ..., or features (all but the classifier)", ()
    )
    head_lr_factor: float = _extra("factor of the classifier's learning rate", 1.0, above=0)
    patience: Optional[int] = _extra(
        "stop after this many epochs without a lower test error; none: never", None, least=1
    )
    ema_decay: float = _extra(
        "decay per step of the moving average of the weights that is evaluated; 0: off",
        0.0,
        least=0,
        most=0.99999,
    )
    dtype: str = setting(
        "data type of the computation; float16 needs GPUs, and keeps weights and BN in float32",
        "float16: not in the paper",
        default="float32",
        choices=("float32", "float16"),
    )
    steps: Optional[int] = _extra("updates in the whole run, for trials", None, least=1)
    #: Number of training images, where the paper and the authors' code differ.
    train_images: Optional[int] = None

    def __post_init__(self):
        check_settings(self)
        if len(self.colour_shift) != 3 or self.colour_shift[0] > 180:
            raise DMRError(
                f"colour_shift must be three numbers, the hue at most 180, not {self.colour_shift}"
            )
        if self.warmup_epochs >= self.epochs:
            raise DMRError(f"warmup_epochs {self.warmup_epochs:g} leaves none of {self.epochs}")
        train_sides, eval_side = self.train_short_side, self.eval_short_side
        if self.crop_area is not None:
            _check_range("crop_area", self.crop_area)
            if train_sides is not None or self.aspect_change or eval_side is None:
                raise DMRError(
                    "crop_area scales images by itself; with it, give eval_short_side, and set "
                    "train_short_side to none and aspect_change to 0"
                )
            train_sides = eval_side, eval_side
        if (train_sides is None) != (eval_side is None):
            raise DMRError("give both train_short_side and eval_short_side, or neither")
        if train_sides is None or eval_side is None:
            for name in ("pca_noise", "aspect_change", "colour_shift"):
                if getattr(self, name) not in (0, (0, 0, 0)):
                    raise DMRError(f"{name} needs train_short_side (scaled images)")
            return
        _check_range("train_short_side", train_sides)
        if self.pad:
            raise DMRError(
                "pad is for images that are not scaled; set pad to 0, or leave out "
                "train_short_side and eval_short_side"
            )
        if min(train_sides[0], eval_side) < self.image_size:
            raise DMRError(
                f"a shorter side of {min(train_sides[0], eval_side)} is too small for a crop of "
                f"{self.image_size} x {self.image_size}; lower image_size or raise "
                f"train_short_side and eval_short_side"
            )

    @classmethod
    def from_json(cls, values: Dict[str, Any]) -> "Recipe":
        """Restore a recipe from ``dataclasses.asdict`` and JSON.

        Parameters
        ----------
        values : dict
            Values by field, with lists for tuples.

        Returns
        -------
        Recipe

        Raises
        ------
        DMRError
            If fields are unknown, missing or have a wrong type.
        """
        try:
            recipe = cls(**tuples_from_lists(values))
            check_types(recipe)
        except (TypeError, AttributeError) as error:
            raise DMRError(
                f"the recipe was not written by this version of dmr-gluon: {error}"
            ) from error
        return recipe


def _check_range(name, pair):
    if len(pair) != 2 or pair[0] > pair[1]:
        raise DMRError(f"{name} must be two numbers, smaller first, not {pair}")


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

#: Not in the paper: a short version of CIFAR's, without mirroring, which changes digits.
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


def fine_tuning(recipe: Recipe) -> Recipe:
    """Return the recipe that adapts a trained network to a set of 100 to 100,000 images.

    Parameters
    ----------
    recipe : Recipe
        One of the paper's, which provides image sizes and mirroring.
    """
    crops: Dict[str, Any] = {"train_short_side": None, "crop_area": (0.35, 1.0), "pca_noise": 0.0}
    own = replace(recipe, epochs=30, batch_size=32, lr=0.01, schedule="cosine", nesterov=True)
    own = replace(own, name=f"finetune-{recipe.name}", train_images=None)
    return replace(own, **crops) if recipe.eval_short_side else own


#: Recipes by the value of ``--recipe``, then by name. On CIFAR, the authors' code follows the paper
#: and settles what it leaves open. On SVHN, it also uses other images
#: (``dmr prepare svhn --svhn-split authors``). Fine-tuning is not in the paper.
RECIPES = {
    "paper": {recipe.name: recipe for recipe in (CIFAR, SVHN, DIGITS, IMAGENET)},
    "authors": {
        # Their reader shuffled 8 MB at a time, about 3,500 of their records.
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
    "finetune": {one.name: fine_tuning(one) for one in (CIFAR, SVHN, DIGITS, IMAGENET)},
}

#: The paper's recipe for each data set.
OF_DATASET = {
    "cifar10": CIFAR,
    "cifar100": CIFAR,
    "svhn": SVHN,
    "imagenet": IMAGENET,
    "digits": DIGITS,
}


def deviations(recipe: Recipe) -> Dict[str, Tuple[Any, Any]]:
    """Compare a recipe with the paper's for the same data, or a fine-tuning recipe with itself.

    The model is not compared: the paper trains many. Where the paper leaves a setting open, the
    authors' value is no deviation.

    Parameters
    ----------
    recipe : Recipe

    Returns
    -------
    dict of str to (value, value)
        The recipe's value and the paper's, for each field that deviates.
    """
    tuned = {one.name: one for one in RECIPES["finetune"].values()}
    paper = {**RECIPES["paper"], **tuned}.get(recipe.name, recipe)
    authors = RECIPES["authors"].get(recipe.name, paper)
    found = {}
    for item in fields(recipe):
        ours, its, theirs = (getattr(one, item.name) for one in (recipe, paper, authors))
        open_ = item.metadata.get("unsaid") and ours == theirs
        if ours != its and item.name != "model" and not open_:
            found[item.name] = ours, its
    return found
