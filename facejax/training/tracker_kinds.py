"""One adapter for each tracker: what it calls a run, a step and a figure.

A tracker's package is imported when one is made, and not before. Where it sends
to is the tracker's own business: its variables and files say so.
"""

import dataclasses
import importlib
import os
import pathlib
import secrets
import time
from collections.abc import Mapping
from typing import Any, Protocol

_PROJECT = "facejax"
_LOGIN = 60.0  # seconds that W&B may wait for somebody to log in
# MLflow refuses more fields at once, and longer values.
_MLFLOW_FIELDS, _MLFLOW_LENGTH = 100, 500


@dataclasses.dataclass(frozen=True)
class Run:
  """What a tracker is told of a run at its start.

  Attributes:
    name: of the run.
    folder: where it works.
    config: every field by its dotted name, as JSON gives it back.
    known_as: what the tracker called it at the last start; None at the first.
  """

  name: str
  folder: pathlib.Path
  config: Mapping[str, Any]
  known_as: str | None = None


class Tracker(Protocol):
  """One run in a tracker.

  Attributes:
    known_as: by what it is found there again.
  """

  known_as: str

  def add(self, step: int, scalars: Mapping[str, float]) -> None:
    """Takes scalars with names such as "train/loss", all of them finite."""
    ...

  def close(self, *, failed: bool) -> None:
    """This start of the run is at its end."""
    ...


class WandB:
  """Weights & Biases; with WANDB_MODE=offline all stays in the work folder."""

  def __init__(self, run: Run):
    wandb: Any = importlib.import_module("wandb")
    self.known_as = run.known_as or secrets.token_hex(4)
    self._run = wandb.init(
      project=os.environ.get("WANDB_PROJECT", _PROJECT),
      name=run.name,
      id=self.known_as,
      resume="allow",
      dir=str(run.folder),
      config=dict(run.config),
      # Nobody may be there to answer; the log is written as it is.
      settings=wandb.Settings(login_timeout=_LOGIN, console="off"),
    )
    # W&B's own step may only grow, and steps are taken again after a restart.
    self._run.define_metric("*", step_metric="step")

  def add(self, step: int, scalars: Mapping[str, float]) -> None:
    self._run.log({**scalars, "step": step})

  def close(self, *, failed: bool) -> None:
    self._run.finish(exit_code=int(failed))


class MLflow:
  """MLflow; without MLFLOW_TRACKING_URI a database in the work folder."""

  def __init__(self, run: Run):
    mlflow: Any = importlib.import_module("mlflow")
    database = (run.folder / "mlflow.db").resolve()
    self._client = mlflow.MlflowClient(
      os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    )
    self._entities = mlflow.entities
    self.known_as = run.known_as or self._begun(run)
    self._client.update_run(self.known_as, status="RUNNING")

  def _begun(self, run: Run) -> str:
    client, entities = self._client, self._entities
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
    found = client.get_experiment_by_name(name)
    place = found.experiment_id if found else client.create_experiment(name)
    known_as = client.create_run(place, run_name=run.name).info.run_id
    fields = [
      entities.Param(field, str(value)[:_MLFLOW_LENGTH])
      for field, value in run.config.items()
    ]
    for first in range(0, len(fields), _MLFLOW_FIELDS):
      some = fields[first : first + _MLFLOW_FIELDS]
      client.log_batch(known_as, params=some)
    return known_as

  def add(self, step: int, scalars: Mapping[str, float]) -> None:
    now = int(1000 * time.time())
    metrics = [
      self._entities.Metric(name, value, now, step)
      for name, value in scalars.items()
    ]
    self._client.log_batch(self.known_as, metrics=metrics)

  def close(self, *, failed: bool) -> None:
    status = "FAILED" if failed else "FINISHED"
    self._client.set_terminated(self.known_as, status)


class Trackio:
  """Trackio, which keeps runs in a folder of the user's, see TRACKIO_DIR."""

  def __init__(self, run: Run):
    trackio: Any = importlib.import_module("trackio")
    # It tells the runs of a project apart by their names alone.
    self.known_as = run.known_as or f"{run.name}-{secrets.token_hex(3)}"
    self._run = trackio.init(
      project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
      name=self.known_as,
      config=dict(run.config),
      resume="allow",
      auto_log_cpu=False,
      auto_log_gpu=False,
    )

  def add(self, step: int, scalars: Mapping[str, float]) -> None:
    self._run.log(dict(scalars), step=step)

  def close(self, *, failed: bool) -> None:
    del failed  # it knows no such thing
    self._run.finish()


class ClearML:
  """ClearML; CLEARML_OFFLINE_MODE=1 keeps a run on this machine."""

  def __init__(self, run: Run):
    clearml: Any = importlib.import_module("clearml")
    # It would fork to report, which a process with JAX's threads must not do.
    importlib.import_module("clearml.config").config_obj.set_overrides(
      {"sdk": {"development": {"report_use_subprocess": False}}}
    )
    # What was kept offline cannot be continued.
    again: dict[str, Any] = {"reuse_last_task_id": False}
    if run.known_as and not run.known_as.startswith("offline"):
      again = {"reuse_last_task_id": run.known_as, "continue_last_task": 0}
    self._task = clearml.Task.init(
      project_name=os.environ.get("CLEARML_PROJECT", _PROJECT),
      task_name=run.name,
      **again,
      # It is told what it is to know.
      auto_connect_arg_parser=False,
      auto_connect_frameworks=False,
      auto_connect_streams=False,
      auto_resource_monitoring=False,
    )
    self.known_as = self._task.id
    self._task.connect(dict(run.config))

  def add(self, step: int, scalars: Mapping[str, float]) -> None:
    report = self._task.get_logger().report_scalar
    for name, value in scalars.items():
      kind, _, figure = name.partition("/")
      report(title=figure, series=kind, value=value, iteration=step)

  def close(self, *, failed: bool) -> None:
    if failed:
      self._task.mark_failed(ignore_errors=True)
    self._task.close()
