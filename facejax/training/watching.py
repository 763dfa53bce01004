"""All that looks on while a run trains, over its rounds: time, trackers, traces."""

import contextlib
from typing import Self

from facejax.runtime import distributed
from facejax.training import (
  accounts,
  build,
  device_figures,
  profiling,
  telemetry,
  trackers,
)
from facejax.training import config as config_lib


class Watch:
  """What is kept from one round of a run to the next; to be entered.

  Of several processes the first looks on; in the others all of it is idle.

  Attributes:
    account: of the run's time.
    profiler: traces the steps that were asked for.

  Args:
    config: of the run.
    program: of the run.
    started: when this process began, by time.monotonic; now if not given.
    profile: steps to trace.
  """

  def __init__(
    self,
    config: config_lib.Config,
    program: build.Program,
    *,
    started: float | None = None,
    profile: profiling.Span | None = None,
  ):
    self._config = config
    self._primary = distributed.primary()
    self._devices = device_figures.DeviceFigures(config, program)
    self._open = contextlib.ExitStack()
    self.account = accounts.Account(
      config.workdir if self._primary else None, since=started
    )
    self.profiler = profiling.Profiler(
      config.workdir, profile if self._primary else None
    )

  def __enter__(self) -> Self:
    config = self._config
    self._open.enter_context(self.account)
    self._tracked = self._open.enter_context(
      trackers.Trackers(
        config.track if self._primary else (),
        name=config.name,
        folder=config.workdir,
        config=config_lib.stored(config),
      )
    )
    self._open.enter_context(self.profiler)
    return self

  def __exit__(self, *exception) -> bool | None:
    return self._open.__exit__(*exception)

  def telemetry(self, total_steps: int, start_step: int) -> telemetry.Telemetry:
    """That of a round, which goes on from a step."""
    return telemetry.Telemetry(
      self._config.workdir,
      total_steps=total_steps,
      start_step=start_step,
      batch_size=self._config.batch_size,
      primary=self._primary,
      account=self.account,
      tracked=self._tracked,
      devices=self._devices.at,
    )

  def show(self) -> None:
    """Shows where the time went."""
    if self._primary:
      telemetry.show(self.account.table())
