"""How functions may be called: by keyword always, and options by keyword alone; what values are."""

import inspect
from dataclasses import fields, is_dataclass

import pytest

from accsim import arith, bounds, budgets, datapath, padding, stages
from verification import climbing, decide, folds, levels, moments, oracle, reachable

MODULES = [arith, bounds, budgets, climbing, datapath, inspect.getmodule(decide), folds, levels,
           moments, oracle, padding, reachable, stages]  # fmt: skip
ARRAYS = ("ndarray", "IntArray", "Flags", "Bits")
WORKERS = {"_Level", "Budget"}  # what changes while it works


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_parameters(module):
    """No parameter is positional only, and one with a default is taken by keyword alone."""
    functions = [
        function
        for _, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
    ]
    assert functions
    for function in functions:
        for parameter in inspect.signature(function).parameters.values():
            assert parameter.kind is not parameter.POSITIONAL_ONLY
            if parameter.default is not parameter.empty and function is not arith.check_bias:
                assert parameter.kind is parameter.KEYWORD_ONLY


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_values(module):
    """Dataclasses are frozen, slotted, and compared unless they hold arrays."""
    for name, made in inspect.getmembers(module, is_dataclass):
        if made.__module__ == module.__name__:
            arrays = any(word in str(f.type) for f in fields(made) for word in ARRAYS)
            given = made.__dataclass_params__
            assert (given.frozen, given.eq) == (name not in WORKERS, not arrays), name
            assert "__slots__" in vars(made), name
            for field in fields(made):
                assert field.kw_only == (name == "Datapath" and field.name != "levels")
