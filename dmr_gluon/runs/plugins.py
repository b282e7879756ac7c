"""Import the module that registers a user's own blocks and networks (``--plugin``).

A run records where the module is and its SHA-256, and keeps a copy. Whatever rebuilds the run's
network imports the module again, and refuses another version of it.
"""

import importlib
import importlib.util
import os
import shutil
from typing import Any, Dict, Optional

from ..errors import DMRError, located
from ..system.files import digests_of
from ..system.program import import_file

#: The SHA-256 of the modules that this process has imported, by name: of each its last version.
_IMPORTED: Dict[str, str] = {}


def import_plugin(source: str) -> Dict[str, str]:
    """Import a module that registers blocks, mappings or networks.

    Parameters
    ----------
    source : str
        Path of a Python file (``my_blocks.py``), or the name of an importable module.

    Returns
    -------
    dict
        What a run's configuration records: ``source`` (a path made absolute), ``file`` (the
        module's) and ``sha256`` (of that file; what it imports is not covered).

    Raises
    ------
    DMRError
        If there is no such module, or it cannot be imported.
    """
    is_file = source.endswith(".py") or os.sep in source
    try:
        path = os.path.abspath(source)
        if not is_file:
            found = importlib.util.find_spec(source)
            path = str(found and found.origin)
        (sha256,) = digests_of(path, "sha256")
    except (OSError, ImportError, ValueError) as error:
        raise DMRError(
            f"--plugin {source}: there is no such file or module; name a Python file, or a module "
            f"on PYTHONPATH"
        ) from error
    name = os.path.splitext(os.path.basename(path))[0] if is_file else source
    if _IMPORTED.get(name) != sha256:
        try:
            if is_file:
                import_file(path, f"dmr_plugin_{name}")
            else:
                importlib.import_module(source)
        except DMRError:
            raise
        except Exception as error:  # of a user's code
            raise DMRError(f"--plugin {source} cannot be imported: {located(error)}") from error
        _IMPORTED[name] = sha256
    return {"source": path if is_file else source, "file": path, "sha256": sha256}


def import_recorded(run, config) -> None:
    """Import the plugin of a run, if it has one.

    Parameters
    ----------
    run : RunDirectory
    config : dict
        Its configuration.

    Raises
    ------
    DMRError
        If the plugin is gone, or is not the version that the run was trained with, and this
        process has not imported that version from elsewhere.
    """
    recorded = config.get("plugin")
    if not recorded or recorded["sha256"] in _IMPORTED.values():
        return
    path = recorded["file"]
    found = digests_of(path, "sha256")[0] if os.path.isfile(path) else None
    if found != recorded["sha256"]:
        state = "has changed since" if found else "is gone"
        raise DMRError(
            f"{run.path} was trained with {path}, which {state}; name the version in the run "
            f"with --plugin {copy_in(run, recorded)}"
        )
    import_plugin(recorded["source"])


def copy_in(run, recorded: Dict[str, Any]) -> str:
    """Return the path of a run's copy of its plugin."""
    return run.file(os.path.basename(recorded["file"]))


def keep_copy(run, recorded: Optional[Dict[str, Any]]) -> None:
    """Copy a plugin into its run, if it has one."""
    if recorded and not os.path.exists(copy_in(run, recorded)):
        shutil.copyfile(recorded["file"], copy_in(run, recorded))
