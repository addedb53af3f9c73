"""Bounds against enumeration, and the published figures."""

from fractions import Fraction
from itertools import accumulate, product

import numpy as np
import pytest

from accsim import Accumulator, between, bounds, signed, unsigned
from accsim.errors import RangeError, ShapeError, SpecError

SPECS = [unsigned(1), unsigned(2), signed(1), signed(2), signed(3, narrow=True),
         between(2, 4), between(-4, -2), between(1, 1), between(0, 0)]  # fmt: skip


def enumerated(weights, spec, bias):
    """Extremes of final and of running sums over all inputs, the slow way."""
    finals, running = [], []
    for x in product(range(spec.min, spec.max + 1), repeat=len(weights)):
        sums = list(accumulate((q * v for q, v in zip(weights, x, strict=True)), initial=bias))
        finals.append(sums[-1])
        running.extend(sums)
    return (min(finals), max(finals)), (min(running), max(running))


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("bias", [0, 5, -5])
def test_extremes_equal_enumeration(spec, bias):
    """Every weight vector of 0 to 3 taps from -2 to 2."""
    for k in range(4):
        for weights in product(range(-2, 3), repeat=k):
            final, running = enumerated(weights, spec, bias)
            row = np.array(weights, dtype=np.int64)
            assert bounds.extremes(row, spec, bias=bias) == final
            assert bounds.running_extremes(row, spec, bias=bias) == running
            least = next(
                p
                for p in range(1, 12)
                if -(2 ** (p - 1)) <= running[0] and running[1] <= 2 ** (p - 1) - 1
            )
            assert bounds.least_bits(row, spec, bias=bias) == least


def test_order_matters_without_zero():
    """Inputs 2..5 with weights (3, -3): the sum stays in ±9, a partial sum reaches 15."""
    assert bounds.extremes([3, -3], between(2, 5)) == (-9, 9)
    assert bounds.running_extremes([3, -3], between(2, 5)) == (-9, 15)
    assert bounds.least_bits([3, -3], between(2, 5)) == 5


def test_an_l1_norm_is_no_certificate():
    """272 ones obey the zero-centred budget of 12 bits and need 13."""
    ones = np.ones(272, dtype=np.int64)
    assert abs(ones).sum() <= bounds.zero_centered_budget(12, unsigned(4))
    assert bounds.extremes(ones, unsigned(4)) == (0, 4080)
    assert bounds.least_bits(ones, unsigned(4)) == 13


def test_a_norm_after_rounding_is_no_certificate():
    """Weights that sum to 0, rounded toward zero: the norm of what is left has too few bits."""
    real = [Fraction(3), *[Fraction(-3, 4)] * 4]
    rounded = [int(value) for value in real]
    assert (sum(real), rounded) == (0, [3, 0, 0, 0, 0])
    assert bounds.zero_centered_bits(rounded, unsigned(4)) == 6
    assert bounds.least_bits(rounded, unsigned(4)) == 7
    # the norm of the real weights is within the budget of 7 bits, and not of 6
    norm = sum(abs(value) for value in real)
    budgets = [bounds.zero_centered_budget(bits, unsigned(4)) for bits in (6, 7)]
    assert budgets[0] < norm <= budgets[1]


def test_channels_of_any_layout():
    """(C, K) and (O, I, kh, kw) give arrays; blocks of many channels agree with one at a time."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-8, 8, (5, 3, 2, 2))
    bias = rng.integers(-9, 9, 5)
    low, high = bounds.extremes(weight, unsigned(4), bias=bias)
    for c in range(5):
        one = bounds.extremes(weight[c].ravel(), unsigned(4), bias=int(bias[c]))
        assert (low[c], high[c]) == one
    many = rng.integers(-8, 8, (2100, 1000))  # more taps than one block holds
    low, high = bounds.running_extremes(many, signed(4))
    assert low.tolist() == (7 * many.clip(max=0) - 8 * many.clip(min=0)).sum(axis=1).tolist()
    assert high.tolist() == (7 * many.clip(min=0) - 8 * many.clip(max=0)).sum(axis=1).tolist()


@pytest.mark.parametrize("bits", [31, 32, 33, 61])
def test_no_size_overflows(bits):
    """Around and beyond int64 the results are Python's."""
    weight = [2**bits, -(2**bits), 2**bits]
    spec = signed(32)
    high = 2 * 2**bits * spec.max + 2**bits * 2**31
    low = -2 * 2**bits * 2**31 - 2**bits * spec.max
    assert bounds.extremes(weight, spec) == (low, high)
    array_low, array_high = bounds.extremes([weight], spec)
    assert (int(array_low[0]), int(array_high[0])) == (low, high)


def test_negative_weights_count_for_size():
    """Large weights that are all negative leave int64 as well."""
    low, high = -(2**42) * (2**31 - 1) - 2**31, 2**42 * 2**31 + 2**31 - 1
    assert bounds.extremes([-(2**40)] * 4 + [1], signed(32)) == (low, high)


@pytest.mark.parametrize(("k", "exact"), [(1024, 16), (4608, 18), (576, 15), (0, 1)])
def test_data_type_bits(k, exact):
    """W3A3 unsigned: the exact widths behind the paper's 17, 19 and 16."""
    assert bounds.data_type_bits(k, signed(3), unsigned(3)) == exact


def test_data_type_bits_equals_search():
    """Against the extremes over all weights of the type."""
    for w, x, k in product([signed(2), signed(3, narrow=True), unsigned(2)], SPECS, range(4)):
        need = max(
            bounds.least_bits(np.array(q, dtype=np.int64), x)
            for q in product((w.min, 0, w.max) if w.min <= 0 else (w.min, w.max), repeat=k)
        )
        assert bounds.data_type_bits(k, w, x) == need


def test_published_budgets():
    """The figures of A2Q and A2Q+ for 4-bit unsigned inputs, and the gain between them."""
    for bits, a2q, plus in ((9, 15.9, 34.0), (10, 31.9, 68.1), (12, 127.9, 272.9),
                            (14, 511.9, 1092.1), (16, 2047.9, 4368.9)):  # fmt: skip
        assert round(float(bounds.l1_budget(bits, unsigned(4))), 1) == a2q
        assert round(float(bounds.zero_centered_budget(bits, unsigned(4))), 1) == plus
    for n, gain in zip(range(1, 9), (4, 2.67, 2.29, 2.13, 2.06, 2.03, 2.02, 2.01), strict=True):
        ratio = bounds.zero_centered_budget(16, unsigned(n)) / bounds.l1_budget(16, unsigned(n))
        assert ratio == Fraction(2 ** (n + 1), 2**n - 1)
        assert round(float(ratio), 2) == gain
    assert bounds.l1_budget(8, signed(4)) == Fraction(127, 8)
    assert bounds.l1_budget(8, between(-3, 9)) == Fraction(127, 9)
    assert bounds.zero_centered_budget(8, between(-3, 9)) == Fraction(254, 12)


def test_sign_budgets_are_the_safe_set():
    """Every channel of up to 4 taps in [-4, 4]: allowed exactly if no sum ever leaves the register."""
    decided = 0
    for spec in (
        unsigned(1),
        unsigned(2),
        signed(2),
        signed(3, narrow=True),
        between(-1, 4),
        between(-5, 0),
    ):
        for taps, bits in product(range(1, 5), range(2, 9)):
            weights = np.array(list(product(range(-4, 5), repeat=taps)))
            budgets = bounds.sign_budgets(bits, spec)
            allowed = budgets.allow(weights.clip(0).sum(axis=1), -weights.clip(max=0).sum(axis=1))
            np.testing.assert_array_equal(allowed, bounds.least_bits(weights, spec) <= bits)
            decided += len(weights)
    assert decided == 6 * 7 * (9 + 9**2 + 9**3 + 9**4)
    for bits, most in zip(range(8, 17), (8, 17, 34, 68, 136, 273, 546, 1092, 2184), strict=True):
        budgets = bounds.sign_budgets(bits, unsigned(4))
        assert budgets.allow(most, most)
        assert not budgets.allow(most + 1, 0)
        assert not budgets.allow(0, most + 1)
    # in arrays, too, no product wraps
    assert not bounds.sign_budgets(62, unsigned(40)).allow(np.array([2**24]), np.array([0]))[0]
    assert not bounds.sign_budgets(8, unsigned(4)).allow(np.int8([100]), np.int8([0]))[0]


@pytest.mark.parametrize("spec", [between(2, 5), between(0, 0)], ids=str)
def test_zero_centred_needs_zero_and_more(spec):
    """Without 0 in the range the published bound proves nothing about partial sums."""
    with pytest.raises(SpecError):
        bounds.zero_centered_budget(8, spec)


SMALL = [unsigned(2), signed(2), between(-1, 3), between(2, 4), between(-4, -2)]


def rows(taps, count=60):
    """Weights of a few taps, extreme ones and zeros among them."""
    rng = np.random.default_rng(taps)
    return rng.choice([-3, -2, -1, 0, 1, 2, 3], (count, taps))


@pytest.mark.parametrize("spec", SMALL, ids=str)
@pytest.mark.parametrize("taps", [0, 1, 3])
def test_any_order_extremes_are_those_of_subsets(spec, taps):
    """Every subset of the products, enumerated over every input, from the start on."""
    inputs = list(product(range(spec.min, spec.max + 1), repeat=taps))
    for row in rows(taps, 12):
        sums = {
            7 + sum(q * v for q, v, used in zip(row.tolist(), x, kept, strict=True) if used)
            for x in inputs
            for kept in product((0, 1), repeat=taps)
        }
        assert bounds.any_order_extremes(row, spec, bias=7) == (min(sums), max(sums))


@pytest.mark.parametrize("spec", [*SMALL, unsigned(8), signed(8), between(-3, 12)], ids=str)
def test_published_bits_are_the_least_of_their_budgets(spec):
    """The first width whose budget holds the norm; on rows and on one row."""
    weight = rows(9)
    budgets = [(bounds.l1_bits, bounds.l1_budget)]
    if spec.contains_zero:
        budgets.append((bounds.zero_centered_bits, bounds.zero_centered_budget))
    for bits, budget in budgets:
        found = bits(weight, spec)
        for row, width in zip(weight, found.tolist(), strict=True):
            norm = int(np.abs(row).sum())
            fitting = [p for p in range(2, 40) if budget(p, spec) >= norm]
            assert max(2, width) == fitting[0] == max(2, bits(row, spec))


@pytest.mark.parametrize("spec", SMALL, ids=str)
def test_a_preload_is_the_least_that_holds(spec):
    """At these bits the start holds every sum, enumerated; one bit less, no start does."""
    taps = 3
    inputs = np.array(list(product(range(spec.min, spec.max + 1), repeat=taps)))
    weight = rows(taps, 25)
    for row, bits in zip(weight, bounds.preloaded_bits(weight, spec).tolist(), strict=True):
        sums = np.concatenate([np.zeros((len(inputs), 1), int), (inputs * row).cumsum(axis=1)], 1)
        low, high = int(sums.min()), int(sums.max())
        assert high - low < 2**bits
        assert bits == 1 or high - low >= 2 ** (bits - 1)
        register = Accumulator(max(2, bits))
        start = bounds.preload(row, spec, register.bits)
        assert register.min <= start + low
        assert start + high <= register.max
        assert start + low == register.min
    needed = int(bounds.preloaded_bits(weight, spec).max())
    with pytest.raises(RangeError, match=f"^acc_bits must be at least {needed} for a preload, not"):
        bounds.preload(weight, spec, needed - 1)
    assert bounds.preload(weight, spec, needed).shape == (25,)


@pytest.mark.parametrize("spec", SMALL, ids=str)
@pytest.mark.parametrize("bits", [5])
def test_fold_intervals(spec, bits):
    """No run of so many taps overflows, wherever it begins; some run of one more does."""
    register = Accumulator(bits)
    weight = rows(7, 40)
    found = bounds.fold_interval(weight, spec, bits)
    assert len(set(found.tolist())) > 1
    for row, interval in zip(weight, found.tolist(), strict=True):

        def safe(length, row=row):
            runs = [row[i : i + length] for i in range(len(row) - length + 1)]
            ends = [bounds.any_order_extremes(run, spec) for run in runs]
            return all(register.min <= low and high <= register.max for low, high in ends)

        assert safe(interval)
        assert interval == 7 or not safe(interval + 1)
        assert bounds.fold_interval(row, spec, bits) == interval
    huge = [2**30, -(2**30)] * 3  # beyond int64 with these inputs
    assert bounds.fold_interval(huge, between(-(2**40), 2**40), 62) == 0
    large = [2**30 + 2**27] * 7  # sums just inside int64
    assert bounds.fold_interval(large, unsigned(30), 62) == 1
    assert bounds.fold_interval(np.negative(large), unsigned(30), 62) == 1
    assert bounds.fold_interval(np.zeros(0, int), spec, bits) == 0


def test_what_bounds_take():
    """Numbers of taps and of bits at both ends, and one beyond."""
    assert bounds.data_type_bits(2**40, signed(1), unsigned(1)) == 41
    for k in (-1, 2**40 + 1):
        with pytest.raises(SpecError, match=f"^k must be an integer from 0 to {2**40}, not {k}$"):
            bounds.data_type_bits(k, signed(4), signed(4))
    for bound in (bounds.preload, bounds.fold_interval):
        assert bound([0, 0], unsigned(1), 2) == {bounds.preload: -2, bounds.fold_interval: 2}[bound]
        bound([0, 0], unsigned(1), 62)
        for bits in (1, 63):
            with pytest.raises(SpecError, match=r"^acc_bits must be an integer from 2 to 62, not"):
                bound([0], unsigned(1), bits)


@pytest.mark.parametrize("shape", [(), (1, 1, 1), (1,) * 5])
def test_weights_of_other_shapes(shape):
    """A row, rows, or kernels of two dimensions."""
    weight = np.ones(shape, int)
    for bound in (bounds.extremes, lambda *layer: bounds.fold_interval(*layer, 8)):
        with pytest.raises(ShapeError, match=r"^weight must be "):
            bound(weight, unsigned(4))


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), (1, 2)])
def test_a_bias_of_another_shape(shape):
    """One entry per channel."""
    with pytest.raises(ShapeError, match=r"^bias must have one entry per channel, 2, not shape"):
        bounds.extremes([[1], [1]], unsigned(4), bias=np.ones(shape, int))


def test_rows_of_nothing():
    """No channels give no results, no taps the start alone."""
    for found in (bounds.extremes, bounds.running_extremes):
        assert [side.tolist() for side in found(np.zeros((0, 3), int), signed(4))] == [[], []]
        rows = found(np.zeros((2, 0), int), signed(4), bias=[3, -4])
        assert [side.tolist() for side in rows] == [[3, -4], [3, -4]]
    assert bounds.preloaded_bits(np.zeros((0, 3), int), signed(4)).tolist() == []
    assert bounds.preload(np.zeros((0, 3), int), signed(4), 2).tolist() == []
    assert bounds.fold_interval(np.zeros((0, 3), int), signed(4), 2).tolist() == []


@pytest.mark.parametrize(("most", "kind"), [(2**63 - 1, np.int64), (2**63, object)])
def test_results_leave_int64_when_they_must(most, kind):
    """The largest sum that int64 holds, and one more."""
    row, start = [[2**31, 2**31]], most - 2**32 * (2**31 - 1)
    low, high = bounds.extremes(row, unsigned(31), bias=[start])
    assert (low.dtype, high.dtype) == (kind, kind)
    assert (int(low[0]), int(high[0])) == (start, most)


def test_bits_of_one_channel_and_of_none():
    """A row alone has the bits of a row among others; the least are 2 of A2Q+, 1 of a preload."""
    weight = rows(5, 30)
    weight[0] = 0
    for spec in (unsigned(1), unsigned(2), signed(2), between(-1, 3)):
        for bits, least in ((bounds.zero_centered_bits, 2), (bounds.preloaded_bits, 1)):
            found = bits(weight, spec)
            assert [bits(row, spec) for row in weight] == found.tolist()
            assert (int(found[0]), int(found.min())) == (least, least)


@pytest.mark.parametrize("is_signed", [True, False])
def test_what_fits(is_signed):
    """Both ends inside, for every pair around the rails; one by one and all at once."""
    register = Accumulator(3, signed=is_signed)
    ends = list(product(range(-9, 10), repeat=2))
    inside = [low in range(register.min, 10) and high in range(-9, register.max + 1)
              for low, high in ends]  # fmt: skip
    fitting = [bounds.fits(low, high, register) for low, high in ends]
    assert fitting == inside
    assert {type(one) for one in fitting} == {bool}
    assert bounds.fits(*np.array(ends).T, register).tolist() == inside


def test_one_channel_has_plain_numbers():
    """Python's own, of a row alone; what is empty has no size."""
    row, spec = [1, -2], unsigned(2)
    numbers = [*bounds.extremes(row, spec), *bounds.running_extremes(row, spec)]
    numbers += [bounds.least_bits(row, spec), bounds.l1_bits(row, spec)]
    numbers += [bounds.zero_centered_bits(row, spec), bounds.preloaded_bits(row, spec)]
    numbers += [bounds.preload(row, spec, 5), bounds.fold_interval(row, spec, 5)]
    assert numbers == [-6, 3, -6, 3, 4, 5, 4, 4, -10, 2]
    assert {type(number) for number in numbers} == {int}
    sizes = {(): 0, (0,): 0, (-3, 2): 3, (-2, 3): 3, (-4, -5): 5, (6, 7): 7, (-(2**63),): 2**63}
    for numbers, size in sizes.items():
        assert bounds.magnitude(np.array(numbers, int)) == size
