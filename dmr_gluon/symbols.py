"""The networks of ``symbols/`` in a clone; an installed package has that folder in this place."""

from pathlib import Path
from typing import TYPE_CHECKING

from .system.program import import_file

import_file(Path(__file__).parents[1] / "symbols" / "__init__.py", __name__)

if TYPE_CHECKING:
    from symbols import get_symbol as get_symbol
