"""What launchers say of the processes that they start."""

import importlib.util

import pytest

from facejax.runtime import cluster

SLURM = {
  "SLURM_JOB_ID": "4100",
  "SLURM_STEP_NODELIST": "node[003-004],other7",
  "SLURM_STEP_NUM_TASKS": "6",
  "SLURM_STEP_TASKS_PER_NODE": "2(x3)",
  "SLURM_PROCID": "3",
  "SLURM_LOCALID": "1",
}
OPEN_MPI = {
  "OMPI_COMM_WORLD_SIZE": "4",
  "OMPI_COMM_WORLD_RANK": "2",
  "OMPI_COMM_WORLD_LOCAL_RANK": "2",
  "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
}
TORCHRUN = {
  "WORLD_SIZE": "4",
  "RANK": "3",
  "LOCAL_RANK": "1",
  "LOCAL_WORLD_SIZE": "2",
  "MASTER_ADDR": "10.0.0.1",
  "MASTER_PORT": "29500",
}


@pytest.fixture(autouse=True)
def no_chips(monkeypatch):
  monkeypatch.setattr(cluster.glob, "glob", lambda pattern: [])


def place(environment, **given):
  found = cluster.find(environment, **given)
  assert found is not None
  return found.coordinator, found.processes, found.process_id, found.devices


@pytest.mark.parametrize(
  ("environment", "expected"),
  [
    (
      {
        "JAX_COORDINATOR_ADDRESS": "a:1",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
      },
      ("a:1", 2, 1, None),
    ),
    (
      {
        "JAX_COORDINATOR_ADDRESS": "job-0.service",
        "JAX_COORDINATOR_PORT": "99",
        "NNODES": "8",
        "JOB_COMPLETION_INDEX": "7",
      },
      ("job-0.service:99", 8, 7, None),
    ),
    (TORCHRUN, ("10.0.0.1:29501", 4, 3, (1,))),
    (
      TORCHRUN | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"},
      ("10.0.0.1:29501", 4, 3, (2, 3)),
    ),
    (TORCHRUN | {"LOCAL_WORLD_SIZE": "1"}, ("10.0.0.1:29501", 4, 3, None)),
    # 4100 mod 4096 is 4.
    (SLURM, ("node003:61444", 6, 3, (1,))),
    (
      SLURM | {"SLURM_GPUS_ON_NODE": "8"},
      ("node003:61444", 6, 3, (4, 5, 6, 7)),
    ),
    (SLURM | {"CUDA_VISIBLE_DEVICES": "5"}, ("node003:61444", 6, 3, None)),
    # One task a node takes all its devices.
    (
      SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x6)", "SLURM_GPUS_ON_NODE": "8"},
      ("node003:61444", 6, 3, None),
    ),
    (
      OPEN_MPI
      | {"OMPI_MCA_orte_hnp_uri": "40960.0;tcp://10.96.0.1,10.148.0.1:34911"},
      ("10.96.0.1:61450", 4, 2, (2,)),
    ),
    (
      OPEN_MPI
      | {"OMPI_MCA_orte_hnp_uri": "40960.0;tcp6://[fe80::1,2620::2]:43370"},
      ("[fe80::1]:61450", 4, 2, (2,)),
    ),
    # Without mpirun's address all are on one machine.
    (OPEN_MPI, ("127.0.0.1:61440", 4, 2, (2,))),
  ],
)
def test_launchers(environment, expected):
  assert place(environment) == expected


@pytest.mark.parametrize(
  "environment",
  [
    {},
    {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
    SLURM | {"SLURM_STEP_NUM_TASKS": "1"},
    TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"},
    {"OMPI_COMM_WORLD_SIZE": "1"},
    {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "1"},
    {"JOB_COMPLETION_INDEX": "3"},
    {"TPU_WORKER_HOSTNAMES": "localhost"},
  ],
)
def test_a_process_alone(environment):
  assert cluster.find(environment) is None


def test_flags_come_first():
  given = {"coordinator": "b:2", "processes": 3, "process_id": 2}
  assert place(SLURM, **given) == ("b:2", 3, 2, None)
  # What they leave out is looked for among JAX's variables.
  environment = {"JAX_COORDINATOR_ADDRESS": "c:3", "NNODES": "4"}
  assert place(environment, process_id=0) == ("c:3", 4, 0, None)
  assert cluster.find(SLURM, processes=1) is None


@pytest.mark.parametrize(
  ("environment", "given", "message"),
  [
    ({}, {"processes": 2}, "--coordinator and --process-id missing"),
    (
      {},
      {"coordinator": "x", "processes": 2, "process_id": 0},
      "'x' .flags.: it must be HOST:PORT",
    ),
    (
      {},
      {"coordinator": "x:1", "processes": 2, "process_id": 2},
      "process 2 of 2",
    ),
    (
      {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2"},
      {},
      "none of JAX_PROCESS_ID, NODE_RANK, JOB_COMPLETION_INDEX",
    ),
    (TORCHRUN | {"RANK": "first"}, {}, "RANK='first' must be a whole number"),
    (TORCHRUN | {"RANK": "4"}, {}, "process 4 of 4"),
    (
      {k: v for k, v in SLURM.items() if k != "SLURM_PROCID"},
      {},
      "srun started 6 tasks, but .*--coordinator",
    ),
    (
      OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
      {},
      "mpirun started 4 processes .*OMPI_MCA_orte_hnp_uri.*a run of its own",
    ),
  ],
)
def test_what_cannot_work_is_refused(environment, given, message):
  with pytest.raises(ValueError, match=message):
    cluster.find(environment, **given)


def test_mpi_needs_its_package(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match="MPI started 2 processes .*mpi4py"):
    cluster.find({"PMI_SIZE": "2"})


@pytest.mark.parametrize(
  ("environment", "method"),
  [
    ({"PMI_SIZE": "2", "MPI_LOCALNRANKS": "1"}, "mpi4py"),
    ({"KUBERNETES_SERVICE_HOST": "k", "JOB_COMPLETION_INDEX": "0"}, "k8s"),
    ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, "auto"),
    ({"MEGASCALE_NUM_SLICES": "2"}, "auto"),
  ],
)
def test_what_jax_alone_knows(monkeypatch, environment, method):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
  found = cluster.find(environment)
  assert found is not None
  assert (found.method, found.coordinator) == (method, "")


def test_a_machine_with_tpus_asks_their_metadata(monkeypatch):
  monkeypatch.setattr(cluster.glob, "glob", lambda pattern: ["/dev/accel0"])
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
  found = cluster.find({})
  assert found is not None
  assert found.method == "auto"
  assert cluster.find({"TPU_SKIP_MDS_QUERY": "1"}) is None
