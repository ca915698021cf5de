"""The container: its files, and (`make test-container`) a build of the image and the whole pipeline in it."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import yaml
from gsm8k_grpo.files import read_json
from gsm8k_grpo.stages.report.reproduction import IMAGE
from project import ROOT

DOCKERFILE = (ROOT / "containers/Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "containers/compose.yaml").read_text())
PINNED = "example.org/debian:12@sha256:" + 64 * "0"
STRANGER = 12345  # a user who exists on no machine


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=ROOT, env=os.environ | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


# The files


def check_of_the_base(base: str) -> subprocess.CompletedProcess[str]:
    """Run the first command of the build in a shell, as the build does."""
    command = re.search(r"^RUN (case .*?esac)$", DOCKERFILE, re.MULTILINE | re.DOTALL)[1].replace("\\\n", "")
    return subprocess.run(["sh", "-c", command], env={"BASE": base}, capture_output=True, text=True)


def test_a_base_without_a_digest_is_refused_with_the_command_that_shows_the_digest():
    refused = check_of_the_base("example.org/debian:12")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: BASE=example.org/debian:12: ")
    assert "'docker buildx imagetools inspect example.org/debian:12'" in line
    assert "example.org/debian:12@sha256:..." in line


def test_a_base_with_a_digest_is_accepted_and_the_default_has_one():
    default = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)[1]
    assert re.search(r"/cuda:\S+@sha256:[0-9a-f]{64}$", default)
    assert [check_of_the_base(base).returncode for base in (PINNED, default)] == [0, 0]


def test_the_image_without_a_gpu_requires_a_base():
    refused = make("image", "TARGET=cpu")
    assert refused.returncode == 2
    assert re.match(r"error: .*BASE=IMAGE@sha256:.*docs/container\.md\n", refused.stderr)


def test_every_stage_derives_from_one_base_and_the_images_run_as_a_user_who_is_not_root():
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    origins = dict(re.match(r"(\S+) AS (\S+)", stage).groups()[::-1] for stage in stages)
    assert origins == {
        "system": "${BASE}", "install": "system", "install-cpu": "install", "cpu": "system",
        "install-cuda": "install", "cuda": "system",
    }  # fmt: skip
    users = {re.match(r".* AS (\S+)", stage)[1]: re.findall(r"^USER (.+)$", stage, re.MULTILINE) for stage in stages}
    assert {name: user for name, user in users.items() if user} == {"cpu": ["1000:1000"], "cuda": ["1000:1000"]}


def test_only_the_lock_files_are_installed():
    assert re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE) == ["cpu.txt", "cuda.txt"]
    installs = re.findall(r"pip install (.+?)(?: \\)?$", DOCKERFILE, re.MULTILINE)
    assert installs == [
        "--no-cache-dir \"$(grep '^torch==' /opt/cpu.txt)\"",
        "--no-cache-dir --no-deps --requirement /opt/cpu.txt",
        "--no-cache-dir --no-deps --require-hashes --requirement /opt/cuda.txt",
    ]
    assert make("-n", "image").stdout.split()[-1] == "envs"


def test_the_files_contain_no_secret_and_no_build_argument_takes_one():
    assert set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE)) == {"BASE", "REVISION"}
    assert not re.search(r"TOKEN|PASSWORD|SECRET_|_KEY|https?://", DOCKERFILE)
    variables = [entry for service in COMPOSE["services"].values() for entry in service.get("environment", [])]
    assert variables == ["HF_TOKEN"]  # only the name; the value is that of the calling environment


def test_servers_listen_on_this_machine_only_by_default():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports == ["${ADDRESS:-127.0.0.1}:5000:5000"]


def test_the_mlflow_server_sends_no_telemetry():
    assert COMPOSE["services"]["mlflow"]["image"] == COMPOSE["services"]["pipeline"]["image"]
    assert re.search(r"^ENV (?:.*\\\n)* +MLFLOW_DISABLE_TELEMETRY=true", DOCKERFILE, re.MULTILINE)


def test_the_repository_is_mounted_at_its_own_path():
    for service in COMPOSE["services"].values():
        assert service["volumes"][0] == "${PWD}:${PWD}"
        assert service["working_dir"] == "${PWD}"
    command = make("-n", "container-report").stdout
    assert '--volume "$PWD:$PWD" --workdir "$PWD"' in command
    assert f'--env {IMAGE}="$(docker image inspect --format ' in command


def test_the_pipeline_of_compose_has_a_gpu_and_reports_to_the_mlflow_server():
    pipeline = COMPOSE["services"]["pipeline"]
    assert pipeline["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]
    assert pipeline["command"][-1] == 'tracking={"uri": "http://mlflow:5000"}'
    assert "mlflow" in COMPOSE["services"]


# The image, built without a daemon on a Debian made by debootstrap, and the pipeline in it.  CONTAINERS_CONF can name a
# file of settings that podman needs on a machine; BUILD_FLAGS can hold options for the build, such as pip's settings.

BUILD = f"--isolation chroot --network host {os.environ.get('BUILD_FLAGS', '')}"
# No network, and only the repository, the caches and /tmp can be written.
RUN = f"--read-only --network none --user {STRANGER}:{STRANGER}"


def sh(command: str, folder: Path = ROOT) -> str:
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[str]:
    """Options that make buildah and podman use a store only for this test."""
    missing = [name for name in ("buildah", "podman", "debootstrap") if shutil.which(name) is None]
    if missing or os.geteuid():
        pytest.skip("needs root and Debian's buildah, podman and debootstrap")
    folder = tmp_path_factory.mktemp("store")
    options = f"--root {folder}/images --runroot {folder}/run"
    yield options
    sh(f"podman {options} system prune --all --volumes --force")


@pytest.fixture(scope="module")
def base(store, tmp_path_factory) -> str:
    """Debian 12, made from its packages, named by its digest."""
    system = tmp_path_factory.mktemp("debian")
    sh(f"debootstrap --variant=minbase bookworm {system}")
    sh(f"rm -r {system}/var/cache/apt/archives/*.deb {system}/var/lib/apt/lists/*")
    sh(f"tar -C {system} -c . | podman {store} import - localhost/debian:12")
    shutil.rmtree(system)
    return "localhost/debian@" + sh(f"podman {store} image inspect localhost/debian:12 --format '{{{{.Digest}}}}'")


@pytest.fixture(scope="module")
def image(store, base) -> dict:
    """The image that `make image` builds, as `podman image inspect` describes it."""
    sh(f"make image TARGET=cpu BASE={base} ENGINE='buildah {store}' BUILD_FLAGS='{BUILD}'")
    return json.loads(sh(f"podman {store} image inspect gsm8k-grpo:cpu"))[0]


@pytest.fixture(scope="module")
def finished(store, image, tmp_path_factory) -> Path:
    """A repository owned by another user, in which a user without a name ran `make container-report`."""
    folder = tmp_path_factory.mktemp("repository")
    sh(f"git clone --quiet {ROOT} {folder}")
    folder.chmod(0o777)
    sh(f"make container-report TARGET=cpu ENGINE='podman {store}' RUN_FLAGS='{RUN}'", folder)
    return folder


@pytest.mark.container
def test_the_build_stops_at_a_base_without_a_digest(store, base):
    stopped = make("image", "TARGET=cpu", "BASE=localhost/debian:12", f"ENGINE=buildah {store}", f"BUILD_FLAGS={BUILD}")
    assert stopped.returncode == 2
    assert "error: BASE=localhost/debian:12: has no digest" in stopped.stderr


@pytest.mark.container
def test_the_image_has_labels_and_contains_no_files_of_the_build(store, base, image):
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in image["Labels"].items()}
    assert (labels["title"], labels["licenses"], labels["base.name"]) == ("gsm8k-grpo", "MIT", base)
    assert labels["revision"] == sh("git rev-parse HEAD")
    assert image["Config"]["User"] == "1000:1000"
    # The streams are joined inside, since outside their lines would come in any order.
    listing = sh(f"podman {store} run --rm gsm8k-grpo:cpu sh -c 'ls /etc/pip.conf /run/secrets /opt 2>&1'; true")
    assert "No such file or directory" in listing
    assert listing.splitlines()[-1] == "venv"


@pytest.mark.container
def test_the_pipeline_has_the_same_results_as_outside_the_container(finished):
    rows = read_json(finished / "results/compare/comparison.json")
    strict = next(row for row in rows if (row["a"], row["b"], row["metric"]) == ("base", "full", "strict_accuracy"))
    assert strict["difference"] >= 0.20
    assert (finished / "results/report/report.html").stat().st_uid == STRANGER


@pytest.mark.container
def test_the_runs_record_their_commit(finished):
    client = mlflow.MlflowClient(f"sqlite:///{finished}/tracking/mlflow.db")
    run = client.get_run(read_json(finished / "results/train/full/metrics.json")["mlflow_run_id"])
    assert run.data.tags["git_commit"] == sh("git rev-parse HEAD", finished)
