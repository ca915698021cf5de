"""Imports of large libraries in less time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Within the block Python does not look for garbage.

    PyTorch and its relatives make a million objects that stay.  To look for garbage among them again and again takes a
    fifth of their import.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
