"""The figures of ``dmr compare``."""
