"""How many devices of JAX the CPU of this machine is.

One, unless JAX is told otherwise before it starts. The passes of a program that
are no product run on one core of a device; two devices on two cores run them on
both, and need not wait for each other at every one of them.
"""

import contextlib

MOST = 1024


def ask(count: int | None) -> None:
  """Sets their number, of this process; before any device is used.

  Over XLA_FLAGS and JAX_NUM_CPU_DEVICES, which say the same. Whether it came in
  time, `check` says.

  Args:
    count: how many; None leaves it to JAX.
  """
  if count is None:
    return
  import jax

  with contextlib.suppress(RuntimeError):  # a backend runs
    jax.config.update("jax_num_cpu_devices", count)


def check(count: int | None, *, flag: str) -> None:
  """Refuses a number of CPU devices that JAX has not; starts a backend.

  Args:
    count: see `ask`.
    flag: where it came from, for the message.

  Raises:
    ValueError: if JAX computes on something else, or ran already with another
      number.
  """
  if count is None:
    return
  import jax

  if (platform := jax.default_backend()) != "cpu":
    raise ValueError(
      f"{flag}={count} is for CPUs, and JAX computes on {platform} here: leave"
      " it out, or set JAX_PLATFORMS=cpu to compute on the CPU"
    )
  if (running := jax.local_device_count()) != count:
    raise ValueError(
      f"{flag}={count}, but JAX runs already with {running} CPU device(s), which"
      f" cannot be changed: give {running}, or start a process of its own"
    )
