"""What the tests of kernels share."""

import importlib.util

import numba
import pytest


@pytest.fixture
def uncompiled(monkeypatch):
    """A function that makes a second copy of a kernel's module, in which nothing is jitted."""

    def copy_of(module):
        with monkeypatch.context() as patch:
            patch.setattr(numba, "njit", lambda **options: lambda function: function)
            spec = importlib.util.spec_from_file_location(module.__name__, module.__file__)
            copy = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(copy)
        return copy

    return copy_of
