# Training on NVIDIA GPUs of compute capability 5.0 to 8.9 (newer ones cannot run MXNet 1.9.1).
# CUDA 11's libraries come from PyPI with the extra cu112; the driver comes from the host, through
# NVIDIA's container toolkit (docker run --gpus all). Build it from the repository's folder:
#   docker build -f docker/cu112.Dockerfile -t dmr-gluon:cu112 .
FROM python:3.11-slim-bookworm

# MXNet's wheel is linked against these two.
# Of whatever version the image's Debian has.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 libquadmath0 \
    && rm -rf /var/lib/apt/lists/*

# What of the driver the container toolkit lets in.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /work
COPY setup.py pyproject.toml README.md LICENSE ./
COPY train_cifar.py train_svhn.py train_imagenet.py ./
COPY dmr_gluon dmr_gluon
COPY symbols symbols
# What is pinned stands in setup.py.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[cu112,digits,onnx]'

# Data sets are read from /work/data, runs written to /work/runs: mount both.
RUN useradd --create-home --uid 1000 trainer && mkdir data runs && chown trainer data runs
USER 1000
CMD ["dmr", "doctor"]
