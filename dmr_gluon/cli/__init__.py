"""The ``dmr`` command and the flags of the training scripts."""
