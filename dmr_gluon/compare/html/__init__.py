"""The page of ``dmr compare --html``."""
