"""Modules of the user's own that join the package's tables, by the variable STYLEALIGN_PLUGINS.

The command line loads them before it reads a flag, Python when a run or a name is opened. They are code, and run.
"""

import importlib
import os
from collections.abc import Iterable

from stylealign.errors import UserError

VARIABLE = "STYLEALIGN_PLUGINS"


def load_plugins() -> None:
    """Import the modules named by STYLEALIGN_PLUGINS, with commas between: they add entries to the tables of detectors,
    translators, style arms and formats. Processes that a job starts inherit the variable, and so the entries.

    Python imports a module once, so that this may be called wherever a table is about to be asked. Raises UserError
    for a module that is not there or cannot be imported.
    """
    for name in filter(None, (part.strip() for part in os.environ.get(VARIABLE, "").split(","))):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = str(error.name)
            if name != missing and not name.startswith(f"{missing}."):
                raise UserError(f"{VARIABLE}: '{name}' imports a module that is not there: '{missing}'") from error
            raise UserError(
                f"{VARIABLE}: no module named '{missing}'; expected one that Python finds: installed, or in a folder "
                "that PYTHONPATH names"
            ) from None
        except Exception as error:
            raise UserError(f"{VARIABLE}: '{name}' cannot be imported: {type(error).__name__}: {error}") from error


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The sentence on a name that is not in a table: what is there, and how an own one gets in."""
    return f"unknown {what} '{name}'; known: {', '.join(known)}; of one of your own, {VARIABLE} has to name the module"
