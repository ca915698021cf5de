"""A real Slurm cluster for tests: two nodes, both of them this machine; needs Debian's slurm-wlm and munge."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from project import free_ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "unshare")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
# A job that is put back into the queue waits until its credential has expired.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_min_interval=0
GresTypes=gpu
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cores} RealMemory=4000 Gres=gpu:1
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cores} RealMemory=4000 Gres=gpu:1
PartitionName=main Nodes=ALL Default=YES
"""
# A device that is there, in the place of a GPU.
DEVICES = "NodeName=one,two Name=gpu Count=1 File=/dev/null\n"
NODES = ("one", "two")
HOSTS = "127.0.0.1 localhost {host} one two\n"
# Slurm's commands within a job read /etc/slurm; here it is a folder of the test's own.  The names of the nodes resolve.
WITH_OWN_FOLDER = 'mount --bind "$0" /etc/slurm && mount --bind "$0/hosts" /etc/hosts && exec "$@"'


def missing() -> str | None:
    """What this machine lacks for a cluster, or None."""
    if os.geteuid():
        return "only root can start Slurm's daemons"
    path = f"{os.environ['PATH']}:/usr/sbin"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return f"not installed: {', '.join(absent)}; apt-get install slurm-wlm munge" if absent else None


class Cluster:
    """Runs commands that see the cluster."""

    def __init__(self, folder: Path):
        self.folder, self.etc = folder, folder / "etc"

    def command(self, *arguments: str | Path) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", WITH_OWN_FOLDER, str(self.etc), *map(str, arguments)]

    def run(self, *arguments: str | Path) -> str:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=True)
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """The rule of each job that is waiting or running, by the job's id."""
        lines = self.run("squeue", "--noheader", "--format=%i %k").splitlines()
        return dict(line.split(" ", 1) for line in lines)


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster whose files are in a folder, which must be empty, for the block."""
    cluster = Cluster(folder)
    for name in ("etc", "state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    facts = {"host": socket.gethostname(), "folder": folder, "ports": free_ports(3), "cores": os.cpu_count()}
    (cluster.etc / "slurm.conf").write_text(CONFIGURATION.format(**facts))
    (cluster.etc / "gres.conf").write_text(DEVICES)
    (cluster.etc / "hosts").write_text(HOSTS.format(**facts))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "seed", "log", "pid")]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files],
        cluster.command("slurmctld", "-D", "-i"),
        *(cluster.command("slurmd", "-D", "-N", node) for node in NODES),
    ]
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
    with ExitStack() as stack, (folder / "daemons.log").open("w") as log:
        for daemon in daemons:
            process = subprocess.Popen(daemon, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            time.sleep(1)
        wait_until_idle(cluster)
        yield cluster
        subprocess.run(cluster.command("scancel", "--user=root"), check=False)


def wait_until_idle(cluster: Cluster) -> None:
    """Wait until both nodes take jobs."""
    end = time.monotonic() + 60
    idle = cluster.command("sinfo", "--noheader", "--states=idle", "--format=%D")
    while subprocess.run(idle, capture_output=True, text=True, check=False).stdout.strip() != str(len(NODES)):
        assert time.monotonic() < end, (cluster.folder / "daemons.log").read_text()
        time.sleep(0.5)
