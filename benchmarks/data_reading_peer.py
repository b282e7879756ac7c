"""The PyTorch side of data_reading.py: one job, read from stdin as JSON.

Knows nothing of dmr_gluon and MXNet, whose NumPy is too old for new PyTorch: it reads index and
records itself, and may run under another interpreter.
"""

import io
import json
import os
import platform
import struct
import sys
import warnings

import numpy as np
import PIL
import torch
import torchvision
from data_reading import images_per_second
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms as v1
from torchvision.transforms import v2

_MAGIC = struct.pack("<I", 0xCED7230A)
#: ImageNet's colours, as in dmr_gluon.data.transforms: 0-255, and components as rows of RGB.
_DEVIATIONS = np.array([55.46, 4.794, 1.148], np.float32)
_COMPONENTS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)


class Records(Dataset):
    """Transformed images and labels of a prepared set's training records."""

    def __init__(self, split, transform):
        with open(split["index"]) as index:
            self.offsets = [int(line.split()[1]) for line in index]
        self.offsets.append(os.path.getsize(split["records"]))
        self.file = os.open(split["records"], os.O_RDONLY)
        self.transform = transform

    def __len__(self):
        return len(self.offsets) - 1

    def image(self, number):
        start, end = self.offsets[number : number + 2]
        record = os.pread(self.file, end - start, start)
        parts, at, kind = [], 0, 1
        while kind not in (0, 3):  # whole, or the last part
            word = struct.unpack_from("<I", record, at + 4)[0]
            kind, length = word >> 29, word & ((1 << 29) - 1)
            parts.append(record[at + 8 : at + 8 + length])
            at += 8 + length + -length % 4
        content = parts[0] if len(parts) == 1 else _MAGIC.join(parts)
        label = struct.unpack_from("<f", content, 4)[0]
        return Image.open(io.BytesIO(content[24:])), int(label)

    def __getitem__(self, number):
        image, label = self.image(number)
        return self.transform(image if image.mode == "RGB" else image.convert("RGB")), label


def transform_of(prepared, recipe, order):
    """Decoded Pillow image to augmented tensor."""
    mean, std = ([value / 255 for value in prepared[key]] for key in ("mean", "std"))
    normalise = v1.Normalize(mean, std, inplace=True)
    size, mirror = recipe["image_size"], v1.RandomHorizontalFlip()
    if recipe["train_short_side"] is None:
        if order == "tensor":
            crop = v1.RandomCrop(size, padding=recipe["pad"])
            return v1.Compose([v1.ToTensor(), normalise, crop, mirror])
        grey = tuple(round(value) for value in prepared["mean"])
        crop = v1.RandomCrop(size, padding=recipe["pad"], fill=grey)
        return v1.Compose([crop, mirror, v1.ToTensor(), normalise])
    low, high = recipe["train_short_side"]
    scale, crop = v2.RandomShortestSize(list(range(low, high + 1))), v1.RandomCrop(size)
    noise = ColourNoise(recipe["pca_noise"])
    if order == "tensor":
        floats = v2.ToDtype(torch.float32, scale=True)
        return v1.Compose([v2.PILToTensor(), scale, crop, mirror, floats, noise, normalise])
    return v1.Compose([scale, crop, mirror, v1.ToTensor(), noise, normalise])


class ColourNoise:
    """Noise along the principal components, on a tensor of 0 to 1."""

    def __init__(self, deviation):
        self.components = torch.from_numpy(_COMPONENTS * _DEVIATIONS * deviation / 255)

    def __call__(self, image):
        return image.add_((self.components @ torch.randn(3)).view(3, 1, 1))


def save_pixels(job, split):
    """The first images, normalised as torchvision does, without augmentation."""
    mean, std = ([value / 255 for value in job["prepared"][key]] for key in ("mean", "std"))
    records = Records(split, v1.Compose([v1.ToTensor(), v1.Normalize(mean, std)]))
    found = {"labels": [], "formats": []}
    for number in range(min(job["images"], len(records))):
        pixels, label = records[number]
        found[f"image{number}"] = pixels.numpy()
        found["labels"].append(label)
        found["formats"].append(records.image(number)[0].format)
    np.savez(job["pixels"], **found)


def measure(job, split, order, workers):
    records = Records(split, transform_of(job["prepared"], job["recipe"], order))
    loader = DataLoader(
        records,
        batch_size=job["recipe"]["batch_size"],
        sampler=RandomSampler(records, num_samples=min(job["images"], len(records))),
        num_workers=workers,
        persistent_workers=True,
    )
    return images_per_second(lambda _: (len(data) for data, _ in loader), job["seconds"])


def main():
    warnings.simplefilter("ignore")  # of more workers than cores, which is tried on purpose
    job = json.load(sys.stdin)
    if "versions" in job:
        modules = {"PyTorch": torch, "torchvision": torchvision, "Pillow": PIL, "NumPy": np}
        versions = {name: module.__version__ for name, module in modules.items()}
        print(json.dumps({"Python": platform.python_version(), **versions}))
        return
    split = job["prepared"]["splits"]["train"]
    if "pixels" in job:
        print(json.dumps(save_pixels(job, split)))
    else:
        print(json.dumps({"rates": [measure(job, split, **form) for form in job["forms"]]}))


if __name__ == "__main__":
    main()
