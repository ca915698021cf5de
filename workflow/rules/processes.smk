# The life of the pipeline's processes: one pipeline per folder, and no job outlives it.
import signal
import sys
from contextlib import suppress

import psutil
from filelock import FileLock, Timeout
from gsm8k_grpo.runtime import locks
from snakemake.scheduling.job_scheduler import JobScheduler

# One pipeline per folder.  Snakemake's own lock, which the profile turns off, remains after a process is killed; this one
# does not.  If another pipeline is about to end, wait for it.  A dry run needs no lock.
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


# On SIGTERM Snakemake waits for the running job, which may take hours.  Pass the signal on: the job saves and ends.
finish_running = JobScheduler.exit_gracefully


def stop_running(scheduler, *arguments):
    for job in psutil.Process().children():
        job.send_signal(signal.SIGTERM)
    finish_running(scheduler, *arguments)


JobScheduler.exit_gracefully = stop_running

# Every job replaces its shell, and the kernel ends it when Snakemake ends, however that happens.
shell.prefix("exec setpriv --pdeathsig TERM ")

# --delete-all-output runs no job, so nothing above stops it while another pipeline is at work.
delete_results = workflow.delete_output


def delete_alone(only_temp=False, dryrun=False):
    if not (dryrun or pipeline.is_locked):
        sys.exit("error: another pipeline is running in this folder, so nothing is deleted; wait for it, or stop it")
    delete_results(only_temp=only_temp, dryrun=dryrun)


workflow.delete_output = delete_alone
