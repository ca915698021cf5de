"""Standard output and error whose reader may go away: a pipe into `head`, or a terminal that is closed.

The work must go on without the reader, so output that nobody can read any more is dropped.  Tracebacks reach the
terminal without the control sequences that a model's answer may hold.
"""

import errno
import io
import os
import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from gsm8k_grpo.files import visible

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

READER_GONE = (errno.EPIPE, errno.EIO)  # the errors of a pipe and of a terminal


class EnduringFile(io.FileIO):
    """A descriptor that leads to /dev/null once a write has found no reader."""

    def write(self, content: "ReadableBuffer") -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in READER_GONE:
                raise
            _drop(self.fileno())
            return memoryview(content).nbytes


def endure_lost_readers() -> None:
    """Make `sys.stdout` and `sys.stderr` of this process survive the loss of their readers, or a start without them."""
    sys.stdout = _enduring(sys.stdout, 1)
    sys.stderr = _enduring(sys.stderr, 2)


def filter_tracebacks() -> None:
    """Make Python escape the control sequences in the traceback of an unexpected error, which a terminal would obey."""
    sys.excepthook = _show


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(visible("".join(traceback.format_exception(kind, error, trace))))


def _enduring(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:  # the process was started with a closed descriptor
        _drop(descriptor)
        return open(descriptor, "w", closefd=False)
    buffer = io.BufferedWriter(EnduringFile(descriptor, "w", closefd=False))
    # PYTHONUNBUFFERED makes the original stream write everything through, instead of line by line.
    by_line = getattr(stream, "line_buffering", False) or getattr(stream, "write_through", False)
    return io.TextIOWrapper(buffer, stream.encoding, stream.errors, line_buffering=by_line)


def _drop(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
