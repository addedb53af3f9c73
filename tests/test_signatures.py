"""How functions may be called: by keyword always, and options by keyword alone."""

import inspect

import pytest

from accsim import arith, bounds, budgets, padding
from verification import decide, oracle

MODULES = [arith, bounds, budgets, inspect.getmodule(decide), oracle, padding]


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
