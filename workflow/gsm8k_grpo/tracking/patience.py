"""How long work waits for a tracking store that doesn't answer, and what keeps the store from answering."""

import os
import time
from functools import cache

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

UNREACHABLE = (MlflowException, SQLAlchemyError, OSError)
"""What MLflow raises if a store can't be reached, read or written."""

# By default MLflow asks a server up to eight times, for two minutes each.  One short wait is enough here, since what is
# missing is sent later.  A second attempt would also send twice what a slow server has received.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")

WORK_PER_WAIT = 20.0
"""Seconds for which a store is left alone after each second of waiting in vain."""


class Patience:
    """Says when a store may be asked again: at once if it refused at once, much later if the work had to wait."""

    def __init__(self) -> None:
        self.resumes = float("-inf")

    @property
    def exhausted(self) -> bool:
        """Whether the store is to be left alone at present."""
        return time.monotonic() < self.resumes

    def waited(self, seconds: float) -> None:
        """Note that the work waited in vain for so many seconds."""
        self.resumes = time.monotonic() + WORK_PER_WAIT * seconds


@cache
def patience(store: str) -> Patience:
    """The one `Patience` of this process with a store."""
    return Patience()


def root_cause(error: BaseException) -> BaseException:
    """The first error in the chain of causes that the system or the database raised, such as `timed out`.

    MLflow's own message begins with the address of the store and often ends before the cause.
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    return next(cause for cause in reversed(causes) if isinstance(cause, UNREACHABLE))
