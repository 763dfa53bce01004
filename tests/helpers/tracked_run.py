"""What trackers are told by two starts of a run, read back; for a process.

python tracked_run.py NAME FOLDER writes FOLDER/found.json, {"known_as": […],
"rows": […]}: each row is [step, name, value], in the order in which it was told.
"""

import json
import os
import pathlib
import sys

from facejax.runs import tracked
from facejax.training import telemetry, trackers


def main(name, folder):
  folder = pathlib.Path(folder)
  known_as = []
  for start in (0, 2):
    with trackers.Trackers(
      [name],
      name="tiny",
      folder=str(folder),
      config={"batch_size": 4, "image_size": [8, 8], "loss.name": "cosface"},
    ) as told:
      known_as.append(tracked.read(folder)[name])
      _take_steps(folder, start, told)
  found = globals()[f"of_{name}"](folder, known_as)
  content = {"known_as": known_as, "rows": found}
  (folder / "found.json").write_text(json.dumps(content))


def _take_steps(folder, start, told):
  with telemetry.Telemetry(
    folder,
    total_steps=4,
    batch_size=4,
    start_step=start,
    terminal=False,
    tracked=told,
  ) as log:
    for step in (start + 1, start + 2):
      log.advance(step)
      log.train(step, {"loss": 1 / (3 + step), "bad": float("nan")})
    log.evaluation(step, {"lfw test/accuracy": 0.1 * step})


def of_mlflow(folder, known_as):
  import mlflow

  client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
  run = client.get_run(known_as[-1])
  assert run.info.status == "FINISHED"
  assert run.data.params["image_size"] == "[8, 8]"
  return [
    [one.step, name, one.value]
    for name in run.data.metrics
    for one in client.get_metric_history(known_as[-1], name)
  ]


def of_trackio(folder, known_as):
  from trackio import sqlite_storage

  return [
    [row["step"], name, value]
    for row in sqlite_storage.SQLiteStorage.get_logs("facejax", known_as[-1])
    for name, value in row.items()
    if "/" in name
  ]


def of_clearml(folder, known_as):
  rows = []
  for one in known_as:
    path = pathlib.Path.home() / ".clearml" / "cache" / "offline" / one
    text = (path / "metrics.jsonl").read_text()
    rows += [
      [each["iter"], f"{each['variant']}/{each['metric']}", each["value"]]
      for line in text.splitlines()
      for each in json.loads(line)
    ]
  return rows


def of_wandb(folder, known_as):
  from wandb.proto import wandb_internal_pb2

  rows = []
  for path in sorted(
    folder.glob(f"wandb/offline-run-*/run-{known_as[-1]}.wandb")
  ):
    for content in _log_records(path.read_bytes()):
      record = wandb_internal_pb2.Record.FromString(content)
      items = {
        one.key or one.nested_key[0]: json.loads(one.value_json)
        for one in record.history.item
      }
      rows += [
        [items["step"], name, value]
        for name, value in items.items()
        if "/" in name
      ]
  return rows


def _log_records(content):
  """Records of LevelDB's log format, behind W&B's own seven bytes."""
  at, record = 7, b""
  while at + 7 <= len(content):
    left = 2**15 - at % 2**15
    if left < 7:  # the end of a block stays empty
      at += left
      continue
    size, kind = (
      int.from_bytes(content[at + 4 : at + 6], "little"),
      content[at + 6],
    )
    record += content[at + 7 : at + 7 + size]
    at += 7 + size
    if kind in (1, 4):  # whole, or the last of several
      yield record
      record = b""


if __name__ == "__main__":
  main(*sys.argv[1:])
