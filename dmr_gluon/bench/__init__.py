"""How fast this project is on this machine: `dmr bench`."""

#: What can be measured of a network.
KINDS = ("training", "inference", "start", "memory")
