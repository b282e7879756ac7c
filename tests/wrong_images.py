"""Files that cannot be predicted, of every kind; needs OpenCV and Pillow."""

import struct

import cv2
import numpy as np
from PIL import Image


def photograph(height=48, width=64, seed=0):
    """(height, width, 3) of uint8: smooth, with some noise."""
    random = np.random.RandomState(seed)
    large = cv2.resize(random.uniform(0, 255, (6, 8, 3)), (width, height), interpolation=1)
    return (large + random.normal(0, 6, large.shape)).clip(0, 255).astype(np.uint8)


def write_other_depths(folder):
    """Write images that would become dark, black or nothing; as :func:`write_wrong_images`."""
    image = photograph()
    deep = (image.astype(np.uint16) * 257)[:, :, ::-1]
    cv2.imwrite(str(folder / "deep.png"), deep)
    cv2.imwrite(str(folder / "deep-grey.png"), deep[..., 0])
    cv2.imwrite(str(folder / "deep.tiff"), deep >> 4)  # 12 bits in 16
    cv2.imwrite(str(folder / "float.tiff"), (image / 255).astype(np.float32))
    for most in (15, 1023):
        grey = (image[..., 0] * (most / 255)).astype(np.uint8 if most < 256 else ">u2")
        (folder / f"{most}.pgm").write_bytes(
            b"P5\n# of a camera\n64 48 %d\n" % most + grey.tobytes()
        )
        colours = np.repeat(grey[..., None], 3, axis=2)
        (folder / f"{most}.ppm").write_bytes(b"P6\n64 48\n%d\n" % most + colours.tobytes())
    clear = Image.fromarray(np.dstack([image, np.zeros_like(image[..., 0])]))
    clear.save(folder / "clear.tiff")
    Image.fromarray(image).convert("CMYK").save(folder / "cmyk.tiff")
    frames = [Image.fromarray(image), Image.fromarray(image[::-1])]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    return {
        **dict.fromkeys(("deep.png", "deep-grey.png"), "is not 8-bit"),
        **{f"{most}.{kind}": "is not 8-bit" for most in (15, 1023) for kind in ("pgm", "ppm")},
        **dict.fromkeys(("deep.tiff", "float.tiff", "clear.tiff", "cmyk.tiff"), "is not 8-bit"),
        **dict.fromkeys(("moving.webp", "phone.heic"), "not an image that"),
    }


def write_wrong_images(folder):
    """Write one of each kind.

    Parameters
    ----------
    folder : pathlib.Path

    Returns
    -------
    dict of str to str
        What the line about each file must say.
    """
    image = photograph()
    good = {
        name: cv2.imencode(f".{name}", image)[1].tobytes() for name in ("jpg", "png", "bmp", "webp")
    }
    Image.fromarray(image).save(folder / "moving.gif")
    # A bomb: a PNG of a hundred bytes that says it has 10^10 pixels.
    bomb = good["png"][:16] + struct.pack(">II", 100_000, 100_000) + good["png"][24:]
    thumbnail = b"\xff\xd8\xff\xe1" + struct.pack(">H", 2 + 4) + b"\xff\xd9ab" + good["jpg"][2:]
    contents = {
        "text.jpg": b"This is not a picture.\n",
        "text.bmp": b"BMW makes cars.\n",
        "empty.png": b"",
        "bomb.png": bomb,
        "head-only.jpg": good["jpg"][:3],
        "thumbnail.jpg": thumbnail[: len(thumbnail) // 2],
        "damaged.png": good["png"][:200] + b"\0" * 50 + good["png"][250:],
        **{f"cut.{name}": data[: len(data) * 2 // 3] for name, data in good.items()},
        "almost.jpg": good["jpg"][:-2],
        "almost.png": good["png"][:-12],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "gone.png").symlink_to("nowhere.png")
    return {
        **write_other_depths(folder),
        **dict.fromkeys((*contents, "moving.gif"), "is damaged, or not an image"),
        "gone.png": "No such file",
    }
