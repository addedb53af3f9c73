"""Datapaths of real hardware by name, each a TOML file of this folder; and files of one's own.

docs/datapaths.md says what is in a file, and how far each of these was checked.
"""

from accsim.datapaths.description import CHECKS, Described, describe, load, names, safe_products

__all__ = ["CHECKS", "Described", "describe", "load", "names", "safe_products"]
