"""Where the time of a run went, as its folder keeps it."""

import pytest

from facejax.runs import goodput


def spent(step, **seconds):
  return goodput.Spent(step, seconds)


def test_it_is_kept_in_the_folder_of_the_run(tmp_path):
  assert goodput.read(tmp_path) == goodput.Spent()
  some = spent(4, steps=2.5, saving=0.125).at_checkpoint()
  goodput.write(tmp_path, some)
  assert goodput.read(tmp_path) == some


@pytest.mark.parametrize("text", ["[]", "{", '{"step": 1}', '{"saved": 3}'])
def test_a_damaged_file_is_named_and_not_counted_on(tmp_path, text, caplog):
  (tmp_path / "goodput.json").write_text(text)
  assert goodput.read(tmp_path) == goodput.Spent()
  assert "goodput.json" in caplog.text and "damaged" in caplog.text


def test_what_came_after_a_checkpoint_is_lost():
  at_10 = spent(10, steps=5.0, starting=3.0, compiling=9.0).at_checkpoint()
  later = goodput.Spent(
    14,
    {"steps": 7.0, "starting": 3.0, "compiling": 9.5, "verifying": 1.0},
    at_10.saved,
  )
  again = later.from_step(10)
  assert again.seconds == {
    **{"steps": 5.0, "verifying": 0.0, goodput.LOST: 3.0},
    # What a start needs is no work that is done again.
    **{"starting": 3.0, "compiling": 9.5},
  }
  assert again.step == 10
  assert sum(again.seconds.values()) == sum(later.seconds.values())
  # Killed once more, before anything was saved: the lost adds up.
  once_more = goodput.Spent(12, {**again.seconds, "steps": 6.5}, again.saved)
  assert once_more.from_step(10).seconds[goodput.LOST] == 4.5


def test_nothing_is_lost_where_nothing_is_done_again():
  at_10 = spent(10, steps=5.0).at_checkpoint()
  now = goodput.Spent(10, {"steps": 5.0, "verifying": 2.0}, at_10.saved)
  assert now.from_step(10).seconds == now.seconds
  # Nobody knows how it stood there: a folder from before there was an account.
  assert spent(10, steps=5.0).from_step(4).seconds == {"steps": 5.0}


def test_a_run_that_never_saved_loses_all():
  assert spent(3, steps=2.0, input=1.0).from_step(0).seconds == {
    **{"steps": 0.0, "input": 0.0, goodput.LOST: 3.0}
  }


def test_going_back_forgets_later_checkpoints_and_old_ones_run_out():
  now = goodput.Spent()
  for step in range(1, 100):
    now = goodput.Spent(step, {"steps": 1.0 * step}, now.saved).at_checkpoint()
  assert min(now.saved) > 50 and max(now.saved) == 99
  back = now.from_step(90)
  assert max(back.saved) == 90
  assert back.seconds == {"steps": 90.0, goodput.LOST: 9.0}
