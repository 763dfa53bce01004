"""The files for clusters say what schedulers and facejax understand."""

import math
import os
import re
import subprocess

import pytest
import yaml
from helpers import paths

from facejax.training import recipe

FOLDER = paths.ROOT / "scripts" / "launch"
SLURM, CLOUD_TPU = FOLDER / "slurm.sbatch", FOLDER / "cloud_tpu.sh"
MANIFESTS = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", [SLURM, CLOUD_TPU], ids=lambda p: p.name)
def test_shells_can_read_them(path):
  subprocess.run(["bash", "-n", path], check=True)


# What sbatch takes, of what is used here.
DIRECTIVES = {
  "job-name": r"[\w-]+",
  "nodes": r"\d+",
  "ntasks-per-node": r"\d+",
  "gpus-per-node": r"\d+",
  "cpus-per-task": r"\d+",
  "time": r"(\d+-)?\d+:\d\d:\d\d",
  "signal": r"(B:)?[A-Z]+@\d+",
  "requeue": "",
  "open-mode": "append|truncate",
  "output": r"[\w%.-]+",
}


def test_sbatch_reads_all_directives():
  """It stops at the first line that is neither empty nor a comment."""
  lines = SLURM.read_text().splitlines()
  head = lines[: next(k for k, line in enumerate(lines) if line[:1] != "#")]
  given = [line for line in lines if line.startswith("#SBATCH")]
  assert given == [line for line in head if line.startswith("#SBATCH")]
  found = dict(
    re.fullmatch(r"#SBATCH --([a-z-]+)=?(\S*)", line).groups() for line in given
  )
  assert found.keys() == DIRECTIVES.keys()
  for name, value in found.items():
    assert re.fullmatch(DIRECTIVES[name], value), name
  # One process a GPU.
  assert found["ntasks-per-node"] == found["gpus-per-node"]


def with_commands(folder, **commands):
  """Variables of an environment in which some commands are other ones."""
  for name, text in commands.items():
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o700)
  return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
  ("code", "restarts", "again"),
  [
    (0, 0, False), (2, 0, False), (130, 0, False), (75, 0, True),
    (75, 99, True), (1, 0, True), (137, 19, True), (1, 20, False),
  ],
)  # fmt: skip
def test_slurm_queues_again_what_may_go_on(code, restarts, again, tmp_path):
  environment = with_commands(
    tmp_path,
    srun=f'printf "srun %s\\n" "$@"; exit {code}',
    scontrol='echo "scontrol $*"',
  ) | {"SLURM_JOB_ID": "42", "SLURM_RESTART_COUNT": str(restarts)}
  done = subprocess.run(
    ["bash", SLURM, "--workdir", "a b"],
    env=environment,
    capture_output=True,
    text=True,
  )
  assert "srun --workdir\nsrun a b\n" in done.stdout
  assert ("scontrol requeue 42" in done.stdout) == again
  assert done.returncode == (0 if again else code)


def test_slurm_alone_decides_about_a_job_that_it_ends(tmp_path):
  environment = with_commands(
    tmp_path,
    srun="kill -TERM $PPID; sleep 0.2; exit 75",
    scontrol="echo called",
  )
  done = subprocess.run(
    ["bash", SLURM], env=environment, capture_output=True, text=True
  )
  assert done.returncode == 75 and "called" not in done.stdout


def test_all_machines_of_a_tpu_run_the_command(tmp_path):
  environment = with_commands(tmp_path, gcloud='printf "%s\\n" "$@"')
  call = ["bash", CLOUD_TPU, "my-tpu", "us-central2-b"]
  done = subprocess.run(
    [*call, "--", "--workdir", "/mnt/a b"],
    env=environment | {"PYTHON": "python3.12"},
    capture_output=True,
    text=True,
    check=True,
  )
  words = done.stdout.splitlines()
  assert words[:5] == ["compute", "tpus", "tpu-vm", "ssh", "my-tpu"]
  assert {"--worker=all", "us-central2-b"} < {*words}
  assert words[-1].strip() == (
    r"python3.12 -m facejax.train --workdir /mnt/a\ b"
  )
  refused = subprocess.run(call, capture_output=True, text=True)
  assert refused.returncode == 2 and "usage" in refused.stderr


# The fields that are used, by name; `?` where they may be missing. A text is a
# pattern for the value, a list has items of one kind.
NAME = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
POD = {
  "subdomain?": NAME,
  "restartPolicy": "Never",
  "terminationGracePeriodSeconds": int,
  "nodeSelector?": {
    "cloud.google.com/gke-tpu-accelerator": r"tpu-[a-z0-9-]+",
    "cloud.google.com/gke-tpu-topology": r"\d+(x\d+){1,2}",
  },
  "containers": [
    {
      "name": NAME,
      "image": r"[a-z0-9./-]+:[\w.-]+",
      "command": [r"[\w.-]+"],
      "args": [r"--[a-z.-]+=\S+"],
      "env?": [{"name": r"[A-Z_]+", "value": ".+"}],
      "ports?": [{"containerPort": int}],
      "resources": {"limits": {"nvidia.com/gpu?": int, "google.com/tpu?": int}},
      "volumeMounts": [{"name": NAME, "mountPath": r"(/\w+)+"}],
    }
  ],
  "volumes": [
    {
      "name": NAME,
      "persistentVolumeClaim?": {"claimName": NAME},
      "emptyDir?": {"medium": "Memory"},
    }
  ],
}
JOB = {
  "completionMode": "Indexed",
  "completions": int,
  "parallelism": int,
  "backoffLimit": int,
  "podFailurePolicy": {
    "rules": [
      {
        "action": "FailJob|Ignore|Count",
        "onExitCodes": {
          "containerName": NAME,
          "operator": "In|NotIn",
          "values": [int],
        },
      }
    ]
  },
  "template": {"spec": POD},
}
KINDS = {
  "Service": {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": NAME},
    "spec": {
      "clusterIP": "None",
      "publishNotReadyAddresses": bool,
      "selector": {"job-name": NAME},
    },
  },
  "Job": {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": NAME},
    "spec": JOB,
  },
  "JobSet": {
    "apiVersion": r"jobset\.x-k8s\.io/v1alpha2",
    "kind": "JobSet",
    "metadata": {
      "name": NAME,
      "annotations?": {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": r"[a-z./-]+"
      },
    },
    "spec": {
      "network?": {"enableDNSHostnames": bool},
      "failurePolicy": {
        "maxRestarts": int,
        "rules": [
          {
            "name": NAME,
            "action": "FailJobSet|RestartJobSet",
            "onJobFailureReasons": ["PodFailurePolicy"],
          }
        ],
      },
      "replicatedJobs": [
        {"name": NAME, "replicas": int, "template": {"spec": JOB}}
      ],
    },
  },
}


def check(value, schema, where):
  """Compares a value with a schema as above."""
  if isinstance(schema, dict):
    assert isinstance(value, dict), where
    needed = {name for name in schema if not name.endswith("?")}
    assert needed <= value.keys() <= {n.rstrip("?") for n in schema}, where
    for name, inner in value.items():
      known = schema.get(name, schema.get(f"{name}?"))
      check(inner, known, f"{where}.{name}")
  elif isinstance(schema, list):
    assert isinstance(value, list) and value, where
    for k, inner in enumerate(value):
      check(inner, schema[0], f"{where}[{k}]")
  elif isinstance(schema, str):
    assert isinstance(value, str) and re.fullmatch(schema, value), where
  else:
    assert type(value) is schema, where


def documents(path):
  return list(yaml.safe_load_all(path.read_text()))


def jobs(path):
  """Name of the first pod, as the others find it, and the job, of a file."""
  for document in documents(path):
    name, spec = document["metadata"]["name"], document["spec"]
    if document["kind"] == "Job":
      subdomain = spec["template"]["spec"]["subdomain"]
      yield f"{name}-0.{subdomain}", spec
    for job in spec.get("replicatedJobs", ()):
      assert job["replicas"] == 1
      yield f"{name}-{job['name']}-0-0.{name}", job["template"]["spec"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_manifests_have_the_fields_of_kubernetes(path):
  for document in documents(path):
    check(document, KINDS[document["kind"]], path.name)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_manifests_agree_with_themselves(path):
  services = [d for d in documents(path) if d["kind"] == "Service"]
  for first, job in jobs(path):
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert job["completions"] == job["parallelism"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}
    for service in services:
      assert service["metadata"]["name"] == pod["subdomain"]
    variables = {one["name"]: one["value"] for one in container.get("env", ())}
    if "nodeSelector" in pod:
      assert not variables  # GKE has its own
      *_, topology = pod["nodeSelector"].values()
      chips = math.prod(map(int, topology.split("x")))
      of_each = container["resources"]["limits"]["google.com/tpu"]
      assert job["completions"] * of_each == chips
    else:
      port = container["ports"][0]["containerPort"]
      assert variables == {
        "JAX_COORDINATOR_ADDRESS": f"{first}:{port}",
        "JAX_NUM_PROCESSES": str(job["completions"]),
      }


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_manifests_train_by_flags_that_exist(path):
  for _, job in jobs(path):
    (container,) = job["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "facejax.train"]
    flags = container["args"]
    command = recipe.parse([*flags, "--data.source", "folder"])
    assert f"--workdir={command.workdir}" in flags
