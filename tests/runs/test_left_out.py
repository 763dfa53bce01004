"""Batches that a run goes without."""

import pytest

from facejax.runs import left_out


def test_it_is_kept_in_the_folder_of_the_run(tmp_path):
  assert left_out.read(tmp_path) == left_out.LeftOutBatches()
  some = (
    left_out.LeftOutBatches().and_also(7, from_step=4).and_also(5, from_step=4)
  )
  left_out.write(tmp_path, some)
  assert left_out.read(tmp_path) == some
  assert some.times(4) == 2 and some.times(0) == 0


@pytest.mark.parametrize("text", ["[]", '{"batches": [{"batch": 1}]}', "{}"])
def test_a_damaged_file_is_named(tmp_path, text):
  (tmp_path / "left_out.json").write_text(text)
  with pytest.raises(ValueError, match="left_out.json is damaged"):
    left_out.read(tmp_path)


def test_a_stream_that_starts_anywhere_goes_without_the_same():
  closed = []

  def batches(start):
    try:
      yield from range(start, 99)
    finally:
      closed.append(start)

  some = left_out.LeftOutBatches((3, 8, 4), (0, 5, 0))
  want = [n for n in range(20) if n not in (3, 4, 8)]
  for step in range(10):
    first = some.number(step)
    stream = some.without(batches(first), first=first)
    assert [next(stream) for _ in range(4)] == want[step : step + 4]
    stream.close()
    assert closed.pop() == first
