"""Call a small prepared set an official one, for what is only done with those.

python call_official.py DIRECTORY NAME
"""

import json
import os
import sys

from dmr_gluon.data.content import DIGESTS
from dmr_gluon.paper.dataset_facts import PUBLISHED


def call_official(directory, name):
    """Change the manifest of a set that was prepared with ``--partial``."""
    path = os.path.join(directory, "manifest.json")
    with open(path, encoding="utf-8") as file:
        manifest = json.load(file)
    facts = PUBLISHED[name]
    manifest["dataset"] = name
    manifest["published"] = {"mean": facts.mean, "std": facts.std}
    manifest["official"] = {"known_by": "counts"}
    if name in DIGESTS:
        manifest["official"] = {"known_by": "content", "digests": DIGESTS[name]}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(manifest, file)


if __name__ == "__main__":
    call_official(*sys.argv[1:])
