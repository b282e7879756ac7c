# Training and inference on CPUs. Build it from the repository's folder:
#   docker build -f docker/cpu.Dockerfile -t dmr-gluon:cpu .
FROM python:3.11-slim-bookworm

# MXNet's wheel is linked against these two.
# Of whatever version the image's Debian has.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 libquadmath0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /work
COPY setup.py pyproject.toml README.md LICENSE ./
COPY train_cifar.py train_svhn.py train_imagenet.py ./
COPY dmr_gluon dmr_gluon
COPY symbols symbols
# What is pinned stands in setup.py.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[cpu,digits,onnx]' \
    && python -c 'import dmr_gluon.runtime'

# Data sets are read from /work/data, runs written to /work/runs: mount both.
RUN useradd --create-home --uid 1000 trainer && mkdir data runs && chown trainer data runs
USER 1000
CMD ["dmr", "doctor"]
