"""Imports of PyTorch and the libraries on top of it in less time."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED = "sklearn"  # transformers imports it, for a second, for a kind of assisted generation


@contextmanager
def quick_imports() -> Iterator[None]:
    """Within the block Python does not look for garbage, and finds no scikit-learn.

    The libraries make a million objects that stay.  To look for garbage among them again and again takes a fifth of
    their import, and half a second each time later.  So after the block they count as permanent.
    """
    gc.disable()
    sys.modules[UNUSED] = None  # type: ignore[assignment]  # Python's own mark of a module that can't be imported
    try:
        yield
    finally:
        del sys.modules[UNUSED]
        gc.freeze()
        gc.enable()
