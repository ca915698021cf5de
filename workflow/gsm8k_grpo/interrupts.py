"""SIGTERM, SIGHUP and Ctrl-C as one exception, and a scope in which they wait for a good moment."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Someone asked this process to end.  Not an Exception: nothing that handles errors should take it for one."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Request:
    """Whether a signal came while `deferred` was open."""

    signum: int | None = None

    def note(self, signum: int, frame: object) -> None:
        """Take the first signal down; a second one interrupts at once."""
        self.signum = signum
        install()

    def obey(self) -> None:
        if self.signum is not None:
            raise Interrupted(self.signum)


def install() -> None:
    """Raise `Interrupted` where the program is when a signal comes."""
    _handle(_raise)


@contextmanager
def deferred() -> Iterator[Request]:
    """Signals only take a note; who opened the scope looks at it and obeys where it can."""
    request = Request()
    _handle(request.note)
    try:
        yield request
    finally:
        install()


def _handle(handler) -> None:
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup ignores SIGHUP and means it
            signal.signal(signum, handler)


def _raise(signum: int, frame: object) -> None:
    raise Interrupted(signum)
