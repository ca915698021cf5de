"""A server that imitates the API of a Kubernetes cluster for Snakemake's plugin; its pods are processes.

It refuses what the real API refuses and the plugin could ask for: what the Role of containers/kubernetes.yaml does not
allow, GPUs without a limit, and the log of a run before the first restart.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from project import ROOT, heeding_interrupts, serving

PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>batch)/v1)/namespaces/(?P<namespace>[^/]+)/(?P<kind>\w+)(?:/(?P<name>[^/]+))?(?:/(?P<part>\w+))?"
)
GRACE = 30  # seconds between SIGTERM and SIGKILL, Kubernetes' default
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: test, cluster: {{server: "{address}"}}}}]
users: [{{name: test, user: {{token: none}}}}]
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
current-context: test
"""


class RefusedError(Exception):
    """An answer other than success: its HTTP status and the message."""


@dataclass
class Cluster:
    """What was asked of the API, and the pods.

    Attributes:
        folder: where the pods have their empty working folder, home and output.
        manifests: of the jobs, as they were posted, by name.
        fails: the regular expression of command lines that do not run but fail.
        without_answer: errors, as HTTP statuses, that questions for the status of a job get instead of an answer.
    """

    folder: Path
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    fails: str | None = None
    without_answer: list[int] = field(default_factory=list)
    role: list[dict[str, list[str]]] = field(default_factory=list)

    def answer(self, verb: str, url: str, body: Any) -> Any:
        address = urlsplit(url)
        parts = PATH.fullmatch(address.path).groupdict()
        kind = "/".join(filter(None, [parts["kind"], parts["part"]]))
        verb = "list" if verb == "get" and not parts["name"] else verb
        if not any(
            (parts["group"] or "") in rule["apiGroups"] and kind in rule["resources"] and verb in rule["verbs"]
            for rule in self.role
        ):
            raise RefusedError(403, f"cannot {verb} resource {kind}")
        query = {key: value for key, (value,) in parse_qs(address.query).items()}
        return getattr(self, f"{verb}_{kind.replace('/', '_')}")(parts["name"], query, body)

    def create_secrets(self, name: None, query: dict[str, str], body: Any) -> Any:
        self.secrets[body["metadata"]["name"]] = body.get("data") or {}
        return body

    def delete_secrets(self, name: str, query: dict[str, str], body: Any) -> Any:
        del self.secrets[name]
        return {}

    def create_jobs(self, name: None, query: dict[str, str], body: Any) -> Any:
        resources = container(body)["resources"]
        for resource, count in resources["requests"].items():
            if "/" in resource and resources.get("limits", {}).get(resource) != count:
                raise RefusedError(422, f"{resource}: Limit must be set for non overcommitable resources")
        name = body["metadata"]["name"]
        self.manifests[name] = body
        self.processes[name] = self.started(name, container(body))
        return body

    def started(self, name: str, of_pod: dict[str, Any]) -> subprocess.Popen:
        """The process of a container: an empty working folder, and nothing of this process's environment but PATH."""
        place = self.folder / name
        place.mkdir()
        command = [*of_pod["command"], *of_pod["args"]]
        if self.fails and re.search(self.fails, command[-1]):
            command = ["false"]
        # PYTHONPATH and HOME are as in the image.
        environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        environment |= {"PYTHONPATH": "workflow", "HOME": str(place), "OMP_NUM_THREADS": "1"}
        with (place / "output").open("w") as output:
            return subprocess.Popen(
                command, cwd=place, env=environment, stdout=output, stderr=output, start_new_session=True,
                preexec_fn=heeding_interrupts,
            )  # fmt: skip

    def get_jobs_status(self, name: str, query: dict[str, str], body: Any) -> Any:
        if self.without_answer:
            raise RefusedError(self.without_answer.pop(), "try again")
        if not self.exists(name):
            raise RefusedError(404, f'jobs.batch "{name}" not found')
        code = self.processes[name].poll()
        status = {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}
        return self.manifests[name] | {"status": status}

    def list_pods(self, name: None, query: dict[str, str], body: Any) -> Any:
        job = query["labelSelector"].removeprefix("job-name=")
        pods = [self.pod(job)] if self.exists(job) else []
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}

    def pod(self, job: str) -> Any:
        code = self.processes[job].poll()
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        status = {"name": "snakemake", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state}
        return {"metadata": {"name": f"{job}-pod"}, "status": {"containerStatuses": [status]}}

    def get_pods_log(self, name: str, query: dict[str, str], body: Any) -> str:
        if query.get("previous") == "True":
            raise RefusedError(400, f'previous terminated container "snakemake" in pod "{name}" not found')
        return (self.folder / name.removesuffix("-pod") / "output").read_text() + "the last line of the pod"

    def delete_pods(self, name: str, query: dict[str, str], body: Any) -> Any:
        self.end(name.removesuffix("-pod"))
        return {}

    def delete_jobs(self, name: str, query: dict[str, str], body: Any) -> Any:
        self.end(name)
        return {}

    def end(self, job: str) -> None:
        """Delete a job and its pod, which exist until the pod has ended: SIGTERM and, after the grace, SIGKILL.

        SIGTERM is for the first process of the container alone.
        """
        if job in self.deleted:
            return
        self.deleted.add(job)
        process = self.processes[job]
        process.terminate()

        def kill() -> None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        Thread(target=kill, daemon=True).start()

    def exists(self, job: str) -> bool:
        return job in self.processes and not (job in self.deleted and self.processes[job].poll() is not None)

    @property
    def remains(self) -> list[str]:
        """The jobs and secrets that nobody deleted."""
        return [*(job for job in self.processes if self.exists(job)), *self.secrets]


def container(job: dict[str, Any]) -> dict[str, Any]:
    """The only container of the pod of a job."""
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return only


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster whose KUBECONFIG is `folder / "config"`, for the block."""
    documents = yaml.safe_load_all((ROOT / "containers/kubernetes.yaml").read_text())
    (role,) = (document["rules"] for document in documents if document["kind"] == "Role")
    cluster = Cluster(folder, role=role)

    class Api(BaseHTTPRequestHandler):
        def respond(self) -> None:
            verb = {"POST": "create", "GET": "get", "DELETE": "delete"}[self.command]
            length = int(self.headers.get("Content-Length") or 0)
            try:
                status, answer = 200, cluster.answer(verb, self.path, json.loads(self.rfile.read(length) or "null"))
            except RefusedError as refusal:
                status, answer = refusal.args[0], {"kind": "Status", "status": "Failure", "message": refusal.args[1]}
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET = do_DELETE = respond  # noqa: N815 (the names are the library's)

        def log_message(self, *parts) -> None:
            """Print nothing."""

    with serving(Api) as address:
        (folder / "config").write_text(KUBECONFIG.format(address=address))
        yield cluster
        for job, process in cluster.processes.items():
            cluster.end(job)
            process.wait()
