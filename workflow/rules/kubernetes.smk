# On Kubernetes (profiles/kubernetes) pods share the project's folder, for which its plugin is not made.
import shlex
from pathlib import Path

from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

executors = ExecutorPluginRegistry()
if executors.is_installed("kubernetes"):
    from kubernetes.client import ApiException, BatchV1Api, CoreV1Api

    plugin = executors.get_plugin("kubernetes")
    # The plugin says that pods share nothing, and then Snakemake ignores --shared-fs-usage and wants a storage provider.
    plugin.common_settings.implies_no_shared_fs = False

    # The plugin starts pods in an empty folder, and there a shell, which passes on no signal.  With `exec` Snakemake replaces
    # the shell and gets the signal to stop, so that training saves.
    plugin.executor.get_job_exec_prefix = lambda executor, job: f"cd {shlex.quote(str(Path.cwd()))}"
    plugin.executor.get_python_executable = lambda executor: "exec python"

    # If the API has no job of a name, because it was cancelled or deleted, or gives another error, the plugin forgets the
    # job, and Snakemake would wait for it forever.  A job that is gone has failed; one without an answer is asked again.
    read_status = BatchV1Api.read_namespaced_job_status
    check_jobs = plugin.executor.check_active_jobs
    unanswered = set()

    def read_status_or_none(api, name, namespace):
        try:
            return read_status(api, name, namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            unanswered.add(name)
            raise

    async def check_every_job(executor, jobs):
        unanswered.clear()
        async for job in check_jobs(executor, jobs):
            yield job
        for job in jobs:
            if job.external_jobid in unanswered:
                yield job

    BatchV1Api.read_namespaced_job_status = read_status_or_none
    plugin.executor.check_active_jobs = check_every_job

    # When a pod has failed, the plugin asks for the log of the container before its last restart.  Its pods never restart,
    # so the API answers with an error, which would end Snakemake and leave the other pods running.
    read_log = CoreV1Api.read_namespaced_pod_log

    def read_present_log(api, *arguments, previous=None, **options):
        return read_log(api, *arguments, **options)

    CoreV1Api.read_namespaced_pod_log = read_present_log
