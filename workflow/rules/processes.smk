# How the pipeline's processes live and end: one pipeline a folder, and no job outlives it.
import signal
import sys
from contextlib import suppress

import psutil
from filelock import FileLock, Timeout
from gsm8k_grpo.runtime import locks
from snakemake.scheduling.job_scheduler import JobScheduler

# One pipeline a folder.  Snakemake's own lock, which the profile turns off, outlives a process that is killed; this one
# doesn't.  A pipeline that is about to end is waited for; a dry run only looks.
pipeline = FileLock(locks.FOLDER / "pipeline.lock")
with suppress(Timeout):
    pipeline.acquire(timeout=0)
if not pipeline.is_locked and not workflow.output_settings.dryrun:
    print("another pipeline is running in this folder; waiting for it to end", file=sys.stderr)
    with suppress(Timeout):
        pipeline.acquire(timeout=locks.PATIENCE)


onstart:
    if not pipeline.is_locked:
        sys.exit("error: another pipeline is running in this folder; wait for it, or stop it")


# On SIGTERM Snakemake waits for the running job, which may take hours: tell the job, which saves what it has and ends.
finish_running = JobScheduler.exit_gracefully


def stop_running(scheduler, *arguments):
    for job in psutil.Process().children():
        job.send_signal(signal.SIGTERM)
    finish_running(scheduler, *arguments)


JobScheduler.exit_gracefully = stop_running

# Every job replaces its shell and ends with Snakemake, however that ends.
shell.prefix("exec setpriv --pdeathsig TERM ")
