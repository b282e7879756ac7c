"""``python -m dmr_gluon.cli``: the ``dmr`` command."""

from .main import main

main()
