"""Progress with the time left: a bar on a terminal, and an occasional line in a log."""

import sys
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

TERMINAL_SECONDS = 1.0  # seconds between two updates of the bar
LOG_SECONDS = 15.0  # seconds between two lines
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} so far, {remaining} left{postfix}"


class ProgressBar(tqdm):
    """tqdm's bar on a terminal, and whole lines without a bar in a file or a pipe."""

    disable: bool  # tqdm's own attribute, set when nothing is to be shown any more

    def __init__(self, *args: Any, **options: Any):
        self.lines = not sys.stderr.isatty()
        if self.lines:
            # By default tqdm looks at the clock only after several steps, depending on their pace, which delays lines.
            options |= {"mininterval": LOG_SECONDS, "miniters": 1, "bar_format": LINE}
        else:
            options |= {"mininterval": TERMINAL_SECONDS}
        super().__init__(*args, **options)

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        if file.isatty():
            return tqdm.status_printer(file)

        def write(line: str) -> None:
            file.write(line.strip() + "\n")
            file.flush()

        return write

    def close(self) -> None:
        if self.lines and not self.disable:
            if self.last_print_n < self.n:
                self.refresh()
            self.disable = True  # so that tqdm does not end the line a second time
            self._decr_instances(self)
        else:
            super().close()
