"""Progress with the time left: a bar on a terminal, and where there is none, as in a log, a line now and then."""

import sys
from typing import Any, TextIO

from tqdm import tqdm

TERMINAL_SECONDS = 1.0  # between two pictures of the bar
LOG_SECONDS = 15.0  # between two lines
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} so far, {remaining} left{postfix}"


class ProgressBar(tqdm):
    """tqdm's bar, which writes over itself; into a file or a pipe it writes whole lines without one."""

    def __init__(self, *args: Any, **options: Any):
        self.lines = not sys.stderr.isatty()
        if self.lines:
            # tqdm learns from the pace after how many steps to look at the clock again; a line must not wait for it.
            options |= {"mininterval": LOG_SECONDS, "miniters": 1, "bar_format": LINE}
        else:
            options |= {"mininterval": TERMINAL_SECONDS}
        super().__init__(*args, **options)

    @staticmethod
    def status_printer(file: TextIO):
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
            self.disable = True  # tqdm would end a line that is not there
            self._decr_instances(self)
        else:
            super().close()
