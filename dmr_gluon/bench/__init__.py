"""How fast this project is on this machine: `dmr bench`."""

#: What can be measured of a network.
KINDS = ("training", "inference", "start", "memory")

#: Images of a step whose growth can be told from the memory that MXNet itself takes.
LEAST_GROWTH_BATCH = 8
