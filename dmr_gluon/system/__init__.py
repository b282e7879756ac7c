"""The machine, its libraries and its processes. Nothing here depends on networks."""
