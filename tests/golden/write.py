"""Write entries of network_sizes.json, by name only: python tests/golden/write.py NAME [NAME ...].

Without names it says what differs from the networks as they are built, and writes nothing.
test_golden.py knows the file's SHA-256, so that whoever writes it has to say so there too.
"""

import hashlib
import json
import sys
from pathlib import Path

from dmr_gluon import get_model
from dmr_gluon.models.complexity import image_size, measure
from dmr_gluon.paper.numbers import NETWORKS

PATH = Path(__file__).parents[2] / "dmr_gluon" / "paper" / "network_sizes.json"


def count(name):
    """What the golden file holds of a network, from the graph as it is built."""
    net = get_model(name)
    size = image_size(net.spec)
    complexity = measure(net.portable_symbol(), (3, size, size))
    tensors = sorted(
        f"{name} {parameter.shape} {parameter.grad_req != 'null'}"
        for name, parameter in net.collect_params().items()
    )
    return {
        "parameters": complexity.parameters,
        "multiply_adds": complexity.multiply_adds,
        "activations": complexity.activations,
        "depth": complexity.depth,
        "tensors": len(tensors),
        # Names and shapes: what .params files of earlier versions have.
        "tensors_sha256": hashlib.sha256("\n".join(tensors).encode()).hexdigest(),
    }


def main(wanted):
    golden = json.loads(PATH.read_text()) if PATH.exists() else {}
    unknown = set(wanted) - {network.name for network in NETWORKS}
    if unknown:
        sys.exit(f"not a network of the paper: {', '.join(sorted(unknown))}")
    for network in NETWORKS:
        found = count(network.name)
        if golden.get(network.name) != found:
            print(f"{network.name}\n  golden: {golden.get(network.name)}\n  built:  {found}")
        if network.name in wanted:
            golden[network.name] = found
    if not wanted:
        sys.exit("nothing written; name the networks whose entries are to be written")
    PATH.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
