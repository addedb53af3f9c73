"""What vector kernels there are: the forms of operands, the work of a tile, the processor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from numba.core.registry import cpu_target

FIELDS = {"exact": 1, "saturate": 1, "cruise": 1, "spill": 1, "count": 3, "peaks": 3}

REGISTER = (
    "low",  # the rails as lanes hold them
    "high",
    "span",  # what wrapping needs: 2^bits - 1; 2^bits in float64
    "shift",  # a lane holds (value + offset) << shift
    "offset",
    "floor",  # "exact" returns floor + ((sum - floor) & mask)
    "mask",
    "rest_low",  # "spill": the rails of the register that the lanes are added to
    "rest_high",
    "table",  # address of the products, where they are looked up
)
SCALARS, CODES = 256, 32  # of a table of products in int16: by the lowest bits of row and lane


@dataclass(frozen=True, slots=True)
class Form:
    """How operands lie in memory: `group` input channels of one tap side by side in one lane."""

    name: str
    element: str  # numpy dtype of an operand
    group: int
    lane: str  # numpy dtype of a register

    @property
    def bits(self) -> int:
        """Bits of a lane."""
        return int(self.lane.removeprefix("float").removeprefix("int"))

    @property
    def countable(self) -> int:
        """Steps that a lane can count, and one more number."""
        return 2**14 if self.bits == 16 else 2**30


FORMS = {
    form.name: form
    for form in (
        Form("int8x4", "uint8", 4, "int32"),
        Form("int8x2", "uint8", 2, "int16"),
        Form("int16", "int16", 1, "int16"),
        Form("int16x2", "int16", 2, "int32"),
        Form("float64", "float64", 1, "float64"),
    )
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a tile computes.

    work: "exact" (sums), "saturate", "count" (the register, steps that overflowed, the first of
    them or -1), "peaks" (sums, lowest, highest), "cruise" (sums, segment by segment, while the
    register keeps clear of the rails), "spill" (the sums of groups of `span` scalars, each in a
    lane that starts at 0, added to a wide register).
    """

    work: str
    form: str
    wraps: bool = False  # count and spill: the register wraps
    clamps: bool = False  # int16: the lowest rail is above that of the lane; int8x2: both are inner
    lanes_unsigned: bool = False  # bytes: the lanes are uint8 and the rows int8, or the reverse
    pairs: bool = False  # int8x4: two products are summed in int16, which saturates
    rests: bool = False  # spill: the wide register saturates
    lane_limits: bool = False  # cruise: limits by lane, or by row
    pixels: bool = False  # stepping through int16x2: the span is one scalar
    eases: bool = False  # saturate in int16: no product is 2^bits or more in size
    looks_up: bool = False  # int16: products come from a table (SCALARS, CODES)

    @property
    def wide(self) -> str:
        """The numpy dtype in which the state is handed over: peaks are returned in it."""
        return "int64" if self.form == "float64" or self.work == "peaks" else "int32"


@dataclass(frozen=True, slots=True)
class Target:
    """The processor that code is made for."""

    triple: str
    processor: str
    features: frozenset[str]

    @property
    def x86(self) -> bool:
        """Whether the instructions are those of x86-64."""
        return self.triple.startswith("x86_64")

    @property
    def vector_bytes(self) -> int:
        """Bytes in the widest vector register whose integer instructions are complete."""
        if self.x86 and {"avx512f", "avx512bw", "avx512vl"} <= self.features:
            return 64
        return 32 if self.x86 and "avx2" in self.features else 16

    @property
    def registers(self) -> int:
        """Vector registers."""
        return 16 if self.x86 and self.vector_bytes < 64 else 32

    @property
    def dot_bytes(self) -> bool:
        """Whether one instruction adds four products of bytes, or two of int16, to an int32."""
        return self.x86 and (
            (self.vector_bytes == 64 and "avx512vnni" in self.features)
            or (self.vector_bytes == 32 and "avxvnni" in self.features)
        )

    @property
    def masks(self) -> bool:
        """Whether instructions take masks."""
        return self.vector_bytes == 64

    @property
    def saturates_slowly(self) -> bool:
        """Whether saturating additions wait for the units that multiply, others for any of four."""
        return self.x86 and self.processor.startswith("znver")

    @property
    def permutes(self) -> bool:
        """Whether a vector of 32 int16 is permuted by units that neither multiply nor saturate."""
        return self.saturates_slowly and self.vector_bytes == 64

    @property
    def dot_pairs(self) -> bool:
        """Whether two products of bytes are added in int16, saturating: exact where they fit."""
        return self.x86 and "ssse3" in self.features


@cache
def host() -> Target:
    """The processor numba compiles for: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES if they are set."""
    triple, processor, features = cpu_target.target_context.codegen().magic_tuple()
    on = (word[1:] for word in features.split(",") if word.startswith("+"))
    return Target(triple, processor, frozenset(on))
