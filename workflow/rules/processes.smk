# The life of the pipeline's processes: one pipeline per folder, and no job outlives it.
import signal
import sys
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

import psutil
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime import locks, output
from snakemake.exceptions import WorkflowError
from snakemake.logging import ColorizingTextHandler
from snakemake.scheduling.job_scheduler import JobScheduler

# One pipeline per folder.  Snakemake's own lock, which the profile turns off, remains after a process is killed; this one
# does not.  If another pipeline is about to end, wait for it.  A dry run needs no lock, and neither does a Snakemake that
# runs one job of a pipeline on a node of a cluster.
pipeline = locks.lock("pipeline")
try:
    if workflow.is_main_process and not locks.take(pipeline, 0) and not workflow.output_settings.dryrun:
        print("another pipeline is running in this folder; waiting for it to end", file=sys.stderr)
        locks.take(pipeline, locks.PATIENCE)
except PipelineError as error:
    raise WorkflowError(str(error)) from None


onstart:
    if workflow.is_main_process and not pipeline.is_locked:
        sys.exit("error: another pipeline is running in this folder; wait for it, or stop it")


# On SIGTERM Snakemake waits for the running job, which may take hours.  Pass the signal on: the job saves and ends.
# The handler runs in the main thread, perhaps while that holds a lock, so it only notes the signal (SimpleQueue.put takes
# no lock that it may interrupt), and another thread does the rest.
finish_running = JobScheduler.exit_gracefully
stops = SimpleQueue()
JobScheduler.exit_gracefully = lambda scheduler, *arguments: stops.put(scheduler)


def stop_running():
    """Once stopped, ask every job to end: again at each further signal, and a job that was about to start."""
    scheduler = stops.get()
    finish_running(scheduler)
    # Where jobs run on a cluster there are two executors; children of this process are then its commands, such as squeue.
    ask_to_end = ask_processes if scheduler._local_executor is None else ask_cluster
    asked = set()
    while True:
        while not stops.empty():  # the rest of a burst: the kernel sends a signal per thread of a parent that dies
            stops.get()
        asked |= ask_to_end(scheduler, asked)
        with suppress(Empty):
            stops.get(timeout=0.1)
            asked.clear()


def ask_processes(scheduler, asked):
    """Send SIGTERM to the jobs that are not in `asked`; all jobs, as processes."""
    jobs = set(psutil.Process().children())
    for job in jobs - asked:
        with suppress(psutil.NoSuchProcess):
            job.send_signal(signal.SIGTERM)
    return jobs


def ask_cluster(scheduler, asked):
    """Cancel the jobs that are not in `asked`; all jobs, by their id on the cluster."""
    jobs = {job.external_jobid: job for job in list(scheduler._executor.active_jobs)}
    new = [job for name, job in jobs.items() if name not in asked]
    if new:
        scheduler._executor.cancel_jobs(new)
    return set(jobs)


Thread(target=stop_running, daemon=True).start()

# Every job replaces its shell, and the kernel ends it when Snakemake ends, however that happens.
shell.prefix("exec setpriv --pdeathsig TERM ")

# --delete-all-output runs no job, so nothing above stops it while another pipeline is at work.
delete_results = workflow.delete_output


def delete_alone(only_temp=False, dryrun=False):
    if not (dryrun or pipeline.is_locked):
        sys.exit("error: another pipeline is running in this folder, so nothing is deleted; wait for it, or stop it")
    delete_results(only_temp=only_temp, dryrun=dryrun)


workflow.delete_output = delete_alone

# A reader that goes away, as in `snakemake | head`, or a closed terminal must not end the work: neither Snakemake, nor
# the tee of each rule, which passes on the output of a job and writes the log until the job ends, whatever the signal.
output.endure_lost_readers()
for handler in logger.handlers:
    if isinstance(handler, ColorizingTextHandler):
        handler.setStream(sys.stdout if handler.stream.fileno() == 1 else sys.stderr)
