"""The three answers to whether something can overflow."""

from __future__ import annotations

from enum import Enum

__all__ = ["Verdict"]


class Verdict(str, Enum):
    """The three answers; none of them means that time ran out."""

    PROVED = "proved"
    """No step overflows for any legal input, so every output is the exact sum."""
    REFUTED = "refuted"
    """A legal input overflows; the report's witness is one."""
    UNDECIDED = "undecided"
    """What the method cannot express; no layer of one register is."""

    def __str__(self) -> str:
        return self.value
