"""Optional packages: one line that says what needs one and how to install it."""

from __future__ import annotations

import importlib
from types import ModuleType

from accsim.errors import MissingExtraError

__all__ = ["require"]


def require(package: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package.

    Raises: MissingExtraError, an ImportError, with the pip command.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package.partition(".")[0]:
            raise  # the package is there; something that it needs is not
        raise MissingExtraError(
            f"{purpose} needs {package}: pip install 'accsim[{extra}]'"
        ) from None
