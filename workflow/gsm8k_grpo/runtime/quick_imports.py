"""Faster imports of PyTorch and of the libraries on top of it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED = "sklearn"  # transformers imports it for a kind of assisted generation, which takes a second


@contextmanager
def quick_imports() -> Iterator[None]:
    """Within the block, Python's garbage collector is off, and scikit-learn can't be imported.

    The libraries make a million objects that stay.  Searching them for garbage again and again would take a fifth of
    the time to import them, and half a second for each search later.  So after the block they count as permanent.
    """
    gc.disable()
    sys.modules[UNUSED] = None  # type: ignore[assignment]  # Python's mark for a module that can't be imported
    try:
        yield
    finally:
        del sys.modules[UNUSED]
        gc.freeze()
        gc.enable()
