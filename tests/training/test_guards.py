"""What stops a run or warns."""

import logging
import os
import signal

import numpy as np
import pytest

from facejax.training import guards


def test_stuck_loss_warns_once_and_only_when_stuck(caplog):
  caplog.set_level(logging.WARNING, logger="facejax")
  moving = guards.StuckLoss(chance=10.0, patience=100)
  assert not any(
    moving.update(step, 9.0 if step == 60 else 11.0)
    for step in range(0, 150, 20)
  )
  stuck = guards.StuckLoss(chance=10.0, patience=100)
  warned = [stuck.update(step, 10.1) for step in range(0, 400, 20)]
  assert warned.index(True) == 5 and sum(warned) == 1
  assert "chance level (10.00) for 100 steps" in caplog.text


def test_a_collapse_is_told_once(caplog):
  guard = guards.Collapse()
  assert not guard.update(1, None) and not guard.update(2, 0.9)
  assert guard.update(3, 1e-5) and not guard.update(4, 1e-5)
  assert "step 3" in caplog.text and "--init-from" in caplog.text


def test_a_process_that_others_wait_for_is_named_once(caplog):
  guard = guards.Stragglers()
  assert guard.update(10, [0.001, 0.004], [0.0, 0.0]) is None  # too little
  assert guard.update(20, [0.3, 0.2, 0.25], [0.0] * 3) is None  # alike
  assert guard.update(30, [0.2, 0.9, 0.2], [0.0, 0.75, 0.0]) == 1
  assert guard.update(40, [0.2, 0.9, 0.2], [0.0, 0.75, 0.0]) is None
  assert guard.update(50, [0.2, 0.2, 0.9], [0.0] * 3) == 2
  assert caplog.text.count("holds the others up") == 2
  assert "step 30" in caplog.text and "0.9 s a step of its own" in caplog.text
  assert "for input 75 % of the time" in caplog.text


def test_waiting_for_images_is_told_once_and_not_after_one_interval(caplog):
  guard = guards.Starvation()
  shares = [0.97, 0.2, float("nan"), 0.9, 0.96, 0.96, 0.1, 0.9, 0.9]
  told = [guard.update(10 * step, share) for step, share in enumerate(shares)]
  assert told == [False] * 4 + [True] + [False] * 4
  assert caplog.text.count("--data.workers") == 1
  assert "step 40: the devices wait for images 96 % of the time" in caplog.text


def test_a_loss_without_a_known_start_never_counts_as_stuck():
  guard = guards.StuckLoss(chance=None, patience=1)
  assert not any(guard.update(step, 1.0) for step in range(9))


def test_bad_images_are_tolerated_up_to_their_share():
  bad = guards.BadImages(max_share=0.01, images=1000)
  for _ in range(10):
    bad.update(np.array([True] + [False] * 99))
  assert bad.count == 10
  with pytest.raises(ValueError, match="12 of 600.*max_bad_share=0.01"):
    strict = guards.BadImages(max_share=0.01, images=1000)
    for _ in range(10):
      strict.update(np.array([True] * 2 + [False] * 98))


def test_the_share_of_a_small_set_is_its_own():
  bad = guards.BadImages(max_share=0.01, images=6)
  with pytest.raises(guards.TooManyBadImagesError, match="1 of 6"):
    bad.update(np.array([True] + [False] * 5))


def test_stop_request_hears_sigterm_and_gives_the_handler_back():
  before = signal.getsignal(signal.SIGTERM)
  with guards.StopRequest() as stop:
    assert not stop.requested
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested
  assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_is_heard_once_and_obeyed_at_the_second(capfd):
  with guards.StopRequest() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.requested and stop.signal == signal.SIGINT
    assert "Ctrl-C again stops without saving" in capfd.readouterr().err
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.signal == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
