"""Check training on the user's devices for ``dmr verify --gpus 0,1``."""
