"""Interrupt the whole pipeline at random moments, again and again: does the same command always finish the work?

    python benchmarks/interruptions.py --by snakemake --interruptions 50 --out snakemake.json
    python benchmarks/interruptions.py --by dvc --interruptions 50 --out dvc.json

In one folder, on few rows, the script starts `snakemake --cores 1 report` or `dvc repro` on a terminal of its own,
interrupts it at a random moment (the times between two are exponential), and starts the same command again.  An
interruption is SIGKILL of the command, SIGKILL of all its processes, SIGTERM, or the terminal's end.  Half of the
commands start at once, while the interrupted one may still be ending.
A command that reaches its end begins a new round, without results.  Counted are

- results that differ from those of an undisturbed run (compared as in same_results.py),
- processes that are still there 30 seconds after the interruption,
- commands that fail or wait for an answer, so that a person would have to do something by hand.

The exit status is 1 if any of these is not zero.  A folder in which a command failed is kept as failed-N.
"""

import argparse
import json
import os
import pty
import random
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import same_results

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/helpers"))
import small_run  # noqa: E402  from the folder above

COMMANDS = {"snakemake": ["snakemake", "--cores", "1", "report"], "dvc": ["dvc", "repro"]}
MADE = ("results", "checkpoints", "dvc.lock", ".dvc/cache")  # what a new round starts without
BOUND = 30.0  # seconds in which every interrupted process must have ended
PATIENCE = 20.0  # a command that takes as many times as long as an undisturbed one waits for something


@dataclass
class Counts:
    """What a series of interruptions came to."""

    interruptions: Counter[str] = field(default_factory=Counter)  # by kind
    stages: Counter[str] = field(default_factory=Counter)  # by the stage that was running
    rounds: int = 0  # runs that reached their end
    differing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    longest_end: float = 0.0  # seconds from an interruption to the end of the last process

    @property
    def clean(self) -> bool:
        return not (self.differing or self.left_over or self.failed)


class Run:
    """The command of a pipeline on a terminal of its own."""

    def __init__(self, command: list[str], folder: Path):
        self.terminal, inside = pty.openpty()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder / "workflow")}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True, preexec_fn=small_run.take_terminal,
            stdin=inside, stdout=inside, stderr=inside,
        )  # fmt: skip
        os.close(inside)
        self.said = b""

    def wait(self, seconds: float) -> int | None:
        """Read what the command says until it ends or the time is over; its exit status, or None if it still runs."""
        end = time.monotonic() + seconds
        while (status := self.process.poll()) is None and time.monotonic() < end:
            self._read(0.05)
        while status is not None and self._read(0.2):
            pass
        return status

    def _read(self, seconds: float) -> bool:
        if not select.select([self.terminal], [], [], seconds)[0]:
            return False
        try:
            self.said += os.read(self.terminal, 1 << 16)
        except OSError:  # EIO: no process has the terminal open any more
            return False
        return True

    def processes(self) -> list[psutil.Process]:
        """The command and everything that it has started."""
        try:
            command = psutil.Process(self.process.pid)
            return [command, *command.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def close(self) -> None:
        if self.terminal >= 0:
            os.close(self.terminal)
        self.terminal = -1

    def last_words(self) -> str:
        return " | ".join(self.said.decode(errors="replace").split("\n")[-6:]).replace("\r", "")


def kill_command(run: Run) -> None:
    run.process.kill()


def kill_all(run: Run) -> None:
    for process in run.processes():
        with suppress(psutil.NoSuchProcess):
            process.kill()


def terminate(run: Run) -> None:
    run.process.terminate()


KINDS: dict[str, Callable[[Run], None]] = {
    "kill -9 of the command": kill_command,
    "kill -9 of everything": kill_all,
    "SIGTERM": terminate,
    "closed terminal": Run.close,
}


def stage_of(processes: list[psutil.Process]) -> str:
    """The stage that runs, or the program that is between two stages."""
    lines = [_command_line(process) for process in processes]
    stages = [line[place + 1] for line in lines for place, word in enumerate(line) if word.endswith("/gsm8k-grpo")]
    return next((stage for stage in stages if not stage.startswith("-")), "between stages")


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return [*process.cmdline(), ""]
    except psutil.Error:
        return [""]


def at_work(folder: Path) -> list[psutil.Process]:
    """The processes, except zombies, that work in a folder."""
    return [
        process
        for process in psutil.process_iter(["cwd", "status"])
        if process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def wait_for_end(run: Run, processes: list[psutil.Process], folder: Path | None) -> tuple[list[psutil.Process], float]:
    """Those of an interrupted run's processes that outlive the bound, and the seconds until the others had ended.

    Args:
        folder: where no other process may work either; None if the next command works there already.
    """
    began = time.monotonic()
    while True:
        run.process.poll()  # collects it
        left = alive(processes) + (at_work(folder) if folder else [])
        passed = time.monotonic() - began
        if not left or passed > BOUND:
            return left, passed
        time.sleep(0.05)


def prepare(folder: Path) -> Path:
    """A copy of the project with few rows, in a repository of its own, which DVC needs."""
    folder.mkdir(parents=True)
    small_run.workflow(folder)
    (folder / "dvc.lock").unlink()
    identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "--message=few rows"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


def begin_again(folder: Path) -> None:
    for name in MADE:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def undisturbed(command: list[str], folder: Path) -> float:
    """Seconds of a run without interruption, in a new folder or earlier in this one."""
    note = folder / ".work/seconds.json"
    if not note.exists():
        began = time.monotonic()
        run = Run(command, prepare(folder))
        if run.wait(3600) != 0:
            sys.exit(f"error: the undisturbed run failed: {run.last_words()}")
        run.close()
        note.write_text(json.dumps(time.monotonic() - began), encoding="utf-8")
    return float(json.loads(note.read_text(encoding="utf-8")))


def series(command: list[str], work: Path, interruptions: int, share: float, seed: int) -> Counts:
    """Interrupt a command that many times; the last one then runs to its end.

    Args:
        share: the mean time between two interruptions, as a part of an undisturbed run.
    """
    whole = work / "undisturbed"
    seconds = undisturbed(command, whole)
    print(f"an undisturbed run takes {seconds:.0f} s", flush=True)
    folder, counts, chance = prepare(work / "disturbed"), Counts(), random.Random(seed)
    kinds = [list(KINDS)[number % len(KINDS)] for number in range(interruptions)]
    chance.shuffle(kinds)
    run = Run(command, folder)
    while True:
        moment = chance.expovariate(1 / (share * seconds)) if kinds else PATIENCE * seconds
        status = run.wait(moment)
        if status is None and kinds:
            run = interrupt(run, kinds.pop(), chance.random() < 0.5, folder, counts)
            continue
        run.close()
        if status == 0:
            check_results(whole, folder, counts)
        else:
            counts.failed.append(f"status {status}: {run.last_words()}")
            print("FAILED", counts.failed[-1], flush=True)
            kill_all(run)
            shutil.copytree(folder, work / f"failed-{len(counts.failed)}", symlinks=True)
        if not kinds:
            return counts
        begin_again(folder)
        run = Run(command, folder)


def interrupt(run: Run, kind: str, at_once: bool, folder: Path, counts: Counts) -> Run:
    """Interrupt a run and start the same command again, at once or after its end; check that it ends."""
    processes = run.processes()
    stage = stage_of(processes)
    KINDS[kind](run)
    counts.interruptions[kind] += 1
    counts.stages[stage] += 1
    again = Run(run.process.args, folder) if at_once else None
    left, seconds = wait_for_end(run, processes, None if again else folder)
    run.close()
    counts.longest_end = max(counts.longest_end, seconds)
    for process in left:
        counts.left_over.append(f"{kind}, {stage}: {' '.join(_command_line(process))}")
        print("LEFT OVER", counts.left_over[-1], flush=True)
        process.kill()
    total = counts.interruptions.total()
    print(f"{total}: {kind}, {stage}, {seconds:.1f} s{', again at once' if at_once else ''}", flush=True)
    return again or Run(run.process.args, folder)


def check_results(whole: Path, folder: Path, counts: Counts) -> None:
    compared = list(same_results.compare(whole / "results", folder / "results"))
    differing = [f"round {counts.rounds}: {name}{remark}" for name, equal, remark in compared if not equal]
    counts.differing += differing
    counts.rounds += 1
    print(f"round {counts.rounds}: {len(compared)} files, {len(differing)} differ", *differing, sep="\n", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--by", choices=COMMANDS, required=True)
    parser.add_argument("--interruptions", type=int, default=50)
    parser.add_argument(
        "--share",
        type=float,
        default=1 / 12,
        help="the mean time between two interruptions, as a part of an undisturbed run; few evaluations survive the "
        "default of a twelfth, so most interruptions come in training",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the moments and kinds")
    parser.add_argument(
        "--folder",
        type=Path,
        help="where to work, beside an earlier undisturbed run or without one; the default is .work/interruptions-TOOL",
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the counts")
    options = parser.parse_args(arguments)
    work = (options.folder or ROOT / f".work/interruptions-{options.by}").resolve()
    if (work / "disturbed").exists():
        parser.error(f"{work}/disturbed exists; remove it or give another --folder")
    counts = series(COMMANDS[options.by], work, options.interruptions, options.share, options.seed)
    text = json.dumps(vars(counts), indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    return int(not counts.clean)


if __name__ == "__main__":
    sys.exit(main())
