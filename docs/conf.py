"""How Sphinx makes pages of these documents: make docs. Warnings are errors."""

import os
import sys

sys.path.insert(0, os.path.abspath(".."))

import dmr_gluon  # noqa: E402
import dmr_gluon.runtime  # noqa: E402, F401  (before anything else imports MXNet)

project = "dmr-gluon"
copyright = "the dmr-gluon authors"
version = release = dmr_gluon.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
# Docstrings are NumPy's; a class's constructor is described in the class.
napoleon_google_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# Every block has it, and MXNet's docstring of it.
autodoc_default_options = {"exclude-members": "hybrid_forward"}
# The notebook is kept with its output; a test runs it.
nb_execution_mode = "off"
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"dmr-gluon {version}"
# The second is where myst-nb writes notebooks; a second build would read them.
exclude_patterns = ["_build", "jupyter_execute"]
