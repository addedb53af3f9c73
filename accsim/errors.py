"""Every error the toolkit raises on purpose; each leaf is also the builtin a caller expects."""

from __future__ import annotations

__all__ = [
    "AccsimError",
    "CheckpointError",
    "DatapathFileError",
    "DtypeError",
    "HostWidthError",
    "LayerFileError",
    "MissingExtraError",
    "ModelError",
    "ModelFileError",
    "RangeError",
    "RecipeError",
    "ReportError",
    "ShapeError",
    "SimulatorError",
    "SpecError",
    "UnsafeLayerError",
    "WitnessError",
]


class AccsimError(Exception):
    """The root: `except AccsimError` catches whatever the toolkit refuses."""


class SpecError(AccsimError, ValueError):
    """A number that describes a type, a register or a geometry is not a legal one."""


class ShapeError(AccsimError, ValueError):
    """Arrays whose dimensions do not fit each other."""


class DtypeError(AccsimError, TypeError):
    """Something other than integers where integers are due; nothing is ever rounded."""


class RangeError(AccsimError, ValueError):
    """An integer outside the range that its specification declares."""


class HostWidthError(AccsimError, OverflowError):
    """A simulation whose own arithmetic could leave 64 bits; use fewer bits or a shorter sum."""


class LayerFileError(AccsimError, ValueError):
    """A file that is not a layer file, is damaged, or claims more than it holds."""


class DatapathFileError(AccsimError, ValueError):
    """A description of a datapath that is unknown, damaged, or without what it must say."""


class ModelError(AccsimError, ValueError):
    """A torch model that cannot be quantized or frozen as it stands."""


class ModelFileError(AccsimError, ValueError):
    """A model file that is damaged, too large, or holds what is not understood."""


class CheckpointError(AccsimError, ValueError):
    """A file of tensors that is damaged, is something else, or belongs to another run or model."""


class RecipeError(AccsimError, ValueError):
    """A training recipe, or what it names, that is not as it must be."""


class ReportError(AccsimError, ValueError):
    """A file that is not a report of the toolkit, or that was changed since it was written."""


class SimulatorError(AccsimError, ValueError):
    """A caller's own simulator that raises where it must answer."""


class UnsafeLayerError(AccsimError, ValueError):
    """Frozen integers that can overflow the register they were trained for."""


class WitnessError(AccsimError, ValueError):
    """A file that is not a witness, or that claims what does not happen when it is replayed."""


class MissingExtraError(AccsimError, ImportError):
    """An optional package is not installed; the text names the pip command."""
