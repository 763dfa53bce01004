import numpy as np
import pytest
from PIL import Image

from facejax.data.pairs import listed, pairs, protocols, templates


def write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  if isinstance(text, str):
    text = text.encode("utf-8", "surrogateescape")
  path.write_bytes(text)
  return path


def picture(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path, "PNG")


def sides(read):
  return [(pair.first, pair.second, pair.same, pair.fold) for pair in read]


@pytest.fixture
def cfp(tmp_path):
  """Two folds of CFP: frontal images 1..4, profile images 1..2."""
  protocol = tmp_path / "cfp" / "Protocol"
  for letter, kind, count in (("F", "frontal", 2), ("P", "profile", 1)):
    paths = [
      f"../Data/Images/{person:03d}/{kind}/{n:02d}.jpg"
      for person in (1, 2)
      for n in range(1, count + 1)
    ]
    lines = [f"{k} {path}\n" for k, path in enumerate(paths, 1)]
    write(protocol / f"Pair_list_{letter}.txt", "".join(lines))
  for kind, same, different in (
    ("FP", ("1,1\n", "4,2\n"), ("1,2\n", "3,1\n")),
    ("FF", ("1,2\n", "3,4\n"), ("1,3\n", "2,4\n")),
  ):
    for fold in (0, 1):
      folder = protocol / "Split" / kind / f"{fold + 1:02d}"
      write(folder / "same.txt", same[fold])
      write(folder / "diff.txt", different[fold])
  return protocol


def test_cfp_frontal_to_profile(cfp):
  expected = [
    ("001/frontal/01.jpg", "001/profile/01.jpg", True, 0),
    ("001/frontal/01.jpg", "002/profile/01.jpg", False, 0),
    ("002/frontal/02.jpg", "002/profile/01.jpg", True, 1),
    ("002/frontal/01.jpg", "001/profile/01.jpg", False, 1),
  ]
  assert sides(protocols.read_list(cfp, "cfp_fp")) == expected
  assert sides(protocols.read_list(cfp / "Split" / "FP")) == expected


def test_cfp_frontal_to_frontal(cfp):
  assert sides(protocols.read_list(cfp / "Split" / "FF")) == [
    ("001/frontal/01.jpg", "001/frontal/02.jpg", True, 0),
    ("001/frontal/01.jpg", "002/frontal/01.jpg", False, 0),
    ("002/frontal/01.jpg", "002/frontal/02.jpg", True, 1),
    ("001/frontal/02.jpg", "002/frontal/02.jpg", False, 1),
  ]


def test_cfp_pairs_find_their_images(cfp, tmp_path):
  root = tmp_path / "aligned"
  for person in (1, 2):
    for n in (1, 2):
      picture(root / f"{person:03d}" / "frontal" / f"{n:02d}.png", 10 * person)
    picture(root / f"{person:03d}" / "profile" / "01.png", 10 * person + 1)
  found = pairs.open_pairs(cfp / "Split" / "FP", root=root, image_size=(4, 4))
  values = [
    [int(found.source[i][0, 0, 0]) for i in side]
    for side in (found.first, found.second)
  ]
  assert values == [[10, 10, 20, 20], [11, 21, 21, 11]]
  assert (found.name, found.fold.tolist()) == ("FP", [0, 0, 1, 1])


def test_cfp_that_is_incomplete(cfp):
  with pytest.raises(ValueError, match="name the protocol, cfp_ff or cfp_fp"):
    protocols.guess(cfp)
  write(cfp / "Split" / "FP" / "02" / "diff.txt", "1,2\n5,1\n")
  with pytest.raises(ValueError, match=r"02/diff.txt' line 2: .*\(5, 1\)"):
    protocols.read_list(cfp, "cfp_fp")
  write(cfp / "Split" / "FP" / "02" / "diff.txt", "1 2\n")
  with pytest.raises(ValueError, match="line 1: expected 2 fields, got 1"):
    protocols.read_list(cfp, "cfp_fp")
  (cfp / "Split" / "FP" / "02" / "diff.txt").unlink()
  with pytest.raises(FileNotFoundError, match=r"02/diff\.txt"):
    protocols.read_list(cfp, "cfp_fp")
  (cfp / "Pair_list_P.txt").unlink()
  with pytest.raises(FileNotFoundError, match=r"Pair_list_P\.txt"):
    protocols.read_list(cfp, "cfp_fp")
  with pytest.raises(FileNotFoundError, match="Split"):
    protocols.read_list(cfp / "nowhere", "cfp_fp")


ALTERNATING = "".join(
  [
    f"Ann_{k:04d}.jpg {k % 3 + 1}\nAnn_{k:04d}.jpg {k % 3 + 1}\n"
    for k in range(20)
  ]
  + [f"Ann_{k:04d}.jpg 0\nBob_{k:04d}.jpg 0\n" for k in range(20)]
)


@pytest.mark.parametrize("protocol", ["calfw", "cplfw", None])
def test_two_lines_for_a_pair(tmp_path, protocol):
  file = write(tmp_path / "pairs_CALFW.txt", ALTERNATING)
  read = protocols.read_list(file, protocol)
  assert [pair.same for pair in read] == [True] * 20 + [False] * 20
  tenths = np.repeat(np.arange(10), 2).tolist()
  assert [pair.fold for pair in read] == tenths * 2
  assert (read[21].first, read[21].second) == ("Ann_0001.jpg", "Bob_0001.jpg")


def test_flat_and_nested_images_are_found(tmp_path):
  text = "Ann_1.jpg 1\nAnn_2.jpg 1\nAnn_1.jpg 0\nBob_1.jpg 0\n"
  file = write(tmp_path / "pairs.txt", text)
  for n in (1, 2):
    picture(tmp_path / "flat" / f"Ann_{n}.jpg", n)
    picture(tmp_path / "nested" / "Ann" / f"Ann_{n}.png", n)
  picture(tmp_path / "flat" / "Bob_1.jpg", 3)
  picture(tmp_path / "nested" / "Bob" / "Bob_1.jpg", 3)
  for root in ("flat", "nested"):
    found = pairs.open_pairs(file, root=tmp_path / root, image_size=(4, 4))
    assert [int(found.source[i][0, 0, 0]) for i in found.second] == [2, 3]
  (tmp_path / "flat" / "Bob_1.jpg").unlink()
  with pytest.raises(FileNotFoundError, match=r"line 4|line 3.*Bob_1\.jpg"):
    listed.listed_pairs(file, tmp_path / "flat")


def test_one_line_for_a_pair(tmp_path):
  text = "".join(
    f"{k}_Ann_30_f.jpg sub/{k}_Ann_60_f.jpg {1 if k % 2 else -1}\n"
    for k in range(12)
  )
  read = protocols.read_list(write(tmp_path / "agedb_30_pair.txt", text))
  assert [pair.same for pair in read] == [False, True] * 6
  assert [pair.fold for pair in read] == [0, 0, 1, 1, *range(2, 10)]
  assert read[3].second == "sub/3_Ann_60_f.jpg"


def test_lfw_is_one_of_them(tmp_path):
  file = write(tmp_path / "pairs.txt", "1\t1\nAnn\t1\t2\nAnn\t1\tBob\t3\n")
  assert sides(protocols.read_list(file)) == [
    ("Ann/Ann_0001", "Ann/Ann_0002", True, 0),
    ("Ann/Ann_0001", "Bob/Bob_0003", False, 0),
  ]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("a.jpg ../b.jpg 1\n", "line 1: '../b.jpg' leads out"),
    ("a.jpg b.jpg 1\n/etc/x.jpg b.jpg 0\n", "line 2: '/etc/x.jpg' leads out"),
    ("a.jpg x//b.jpg 1\n", "line 1: 'x//b.jpg' leads out"),
    ("a.jpg x/./b.jpg 1\n", "line 1: .* leads out"),
    ("a.jpg ..\\b.jpg 1\n", "line 1: .* leads out"),
    ("a.jpg b.jpg 1\na.jpg b.jpg 2\n", "line 2: expected a label"),
    ("a.jpg b.jpg 1\na.jpg 0\n", "line 2: expected 3 fields, got 2"),
    ("a.jpg 1\n", "line 1: the other image of this pair is missing"),
    ("a.jpg 1\nb.jpg 0\n", "line 2: expected both images of a pair"),
    ("a.jpg 1\nb.jpg 1\n\nc.jpg x\nd.jpg x\n", "line 5: expected both"),
    ("a.jpg 1\n../b.jpg 1\n", "line 2: '../b.jpg' leads out"),
    ("what is this list\n", "begins with 'what is this list'"),
    ("a.jpg b\0.jpg 1\n", "line 1: is no text"),
    ("a" * 10**5, "line 1: is no text"),
    ("", "is empty"),
    ("\n\n", "is empty"),
  ],
)
def test_malformed_lists_name_the_line(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    protocols.read_list(write(tmp_path / "pairs.txt", text))


def test_lists_that_are_not_there(tmp_path):
  with pytest.raises(FileNotFoundError, match="there is no file"):
    protocols.read_list(tmp_path / "nowhere.txt")
  file = write(tmp_path / "pairs.txt", "a.jpg b.jpg 1\n")
  with pytest.raises(ValueError, match="protocol 'lwf' is not known"):
    protocols.read_list(file, "lwf")
  with pytest.raises(ValueError, match="name the folder of its images"):
    pairs.open_pairs(file, image_size=(4, 4))


def test_names_need_not_be_utf_8(tmp_path):
  name = "J\udce9r\udcf4me/1.png"
  picture(tmp_path / "faces" / name, 7)
  picture(tmp_path / "faces" / "Ann" / "1.png", 8)
  file = write(tmp_path / "pairs.txt", f"{name} Ann/1.png 0\n")
  found = pairs.open_pairs(file, root=tmp_path / "faces", image_size=(4, 4))
  assert int(found.source[int(found.first[0])][0, 0, 0]) == 7
  assert found.source.name(int(found.first[0])) == r"J\xe9r\xf4me/1.png"


def test_template_images(tmp_path):
  file = write(
    tmp_path / "tid_mid.txt", "1.jpg 1 69544\n2.jpg 1 7\n3.jpg 5 7\n"
  )
  read = templates.read_template_images(file)
  assert list(read.names) == ["1.jpg", "2.jpg", "3.jpg"]
  assert read.template.tolist() == [1, 1, 5]
  assert read.media.tolist() == [69544, 7, 7]
  assert read.template.dtype == read.media.dtype == np.int32


def test_detected_faces(tmp_path):
  numbers = " ".join(str(k + 0.5) for k in range(10))
  file = write(
    tmp_path / "5pts.txt", f"1.jpg {numbers} 0.99\n2.jpg {numbers} 1\n"
  )
  read = templates.read_detected_faces(file)
  assert read.points.shape == (2, 5, 2)
  assert read.points[0, :2].tolist() == [[0.5, 1.5], [2.5, 3.5]]
  np.testing.assert_allclose(read.score, [0.99, 1.0], rtol=1e-6)
  assert read.points.dtype == read.score.dtype == np.float32


def test_template_pairs(tmp_path):
  read = templates.read_template_pairs(
    write(tmp_path / "pairs.txt", "1 11065 1\n1 2 0\n5 11065 0\n")
  )
  assert read.first.tolist() == [1, 1, 5]
  assert read.second.tolist() == [11065, 2, 11065]
  assert read.same.tolist() == [True, False, False]
  assert read.first.dtype == read.second.dtype == np.int32


def test_enrolled_templates(tmp_path):
  text = "TEMPLATE_ID,SUBJECT_ID,FILENAME,FACE_X\n1,9,img/1.jpg,3\n1,9,,\n2,8\n"
  read = templates.read_enrolled(write(tmp_path / "gallery.csv", text))
  assert read.template.tolist() == [1, 1, 2]
  assert read.subject.tolist() == [9, 9, 8]


@pytest.mark.parametrize(
  ("reader", "text", "message"),
  [
    ("template_images", "1.jpg 1 2\n../2.jpg 1 2\n", "line 2: .* leads out"),
    ("template_images", "1.jpg 1\n", "line 1: expected 3 fields, got 2"),
    ("template_images", "1.jpg 1 -2\n", "line 1: expected a number, got '-2'"),
    ("template_images", "1.jpg 1 4294967296\n", "line 1: .* is larger than"),
    ("template_images", "", "is empty"),
    ("detected_faces", "1.jpg 1 2 3 4\n", "line 1: expected 12 fields, got 5"),
    ("detected_faces", "1.jpg" + " 1" * 10 + " x\n", "line 1: expected ten"),
    ("detected_faces", "1.jpg" + " nan" * 11 + "\n", "line 1: .* finite"),
    ("template_pairs", "1 2 1\n\n1 2\n", "line 3: expected 3 fields, got 2"),
    ("template_pairs", "1 2 1\n1 2 3\n", "line 2: expected a label of 0 or 1"),
    ("template_pairs", "1 2 1\n1 -2 1\n", "line 2: expected a number"),
    ("template_pairs", "1 2 1\n1 2.5 1\n", "line 2: expected a number"),
    ("template_pairs", "1 2 1\n1 99999999999 1\n", "line 2: expected a number"),
    ("template_pairs", "1 2 1\n1 # 1\n", "line 2: expected a number"),
    ("template_pairs", b"1 2 1\n1 \xff 1\n", "line 2: expected a number"),
    ("template_pairs", "", "is empty"),
    ("enrolled", "1,9\n", "line 1: expected a header"),
    (
      "enrolled",
      "SUBJECT_ID,X,TEMPLATE_ID\n1,2\n",
      "line 2: expected 3 fields",
    ),
    ("enrolled", "TEMPLATE_ID,SUBJECT_ID\n1,x\n", "line 2: expected a number"),
  ],
)
def test_malformed_template_lists(tmp_path, reader, text, message):
  read = getattr(templates, f"read_{reader}")
  with pytest.raises(ValueError, match=message):
    read(write(tmp_path / "list.txt", text))
  with pytest.raises(FileNotFoundError, match="there is no file"):
    read(tmp_path / "nowhere.txt")


RFW = "".join(
  [f"m.0{fold}x\t1\t2\nm.0{fold}x\t2\tm.0{fold}y\t11\n" for fold in range(10)]
)


def test_racial_faces_in_the_wild(tmp_path):
  path = write(tmp_path / "African_pairs.txt", RFW)
  assert protocols.guess(path) == "rfw"
  read = sides(protocols.read_list(path))
  assert len(read) == 20
  assert read[2:4] == [
    ("m.01x/m.01x_0001", "m.01x/m.01x_0002", True, 1),
    ("m.01x/m.01x_0002", "m.01y/m.01y_0011", False, 1),
  ]


def test_balanced_faces_in_the_wild(tmp_path):
  lines = [
    "fold,p1,p2,label,id1,id2,att1,att2,vgg16",
    "1,asian_females/n000009/0010_01.jpg,asian_females/n000009/0043_01.jpg,"
    "1,0,0,asian_females,asian_females,0.82",
    "5,asian_females/n000009/0010_01.jpg,white_males/n000012/0001_02.jpg,"
    "0,0,7,asian_females,white_males,0.1",
  ]
  path = write(tmp_path / "bfw.csv", "\n".join(lines) + "\n")
  assert protocols.guess(path) == "bfw"
  first = "asian_females/n000009/0010_01.jpg"
  assert sides(protocols.read_list(path)) == [
    (first, "asian_females/n000009/0043_01.jpg", True, 0),
    (first, "white_males/n000012/0001_02.jpg", False, 4),
  ]


def test_masked_and_cross_quality_lfw_have_forms_that_are_known(tmp_path):
  text = "Ann_X_0001_0001.jpg Ann_X_0002_0003.jpg 1\n"
  text += "Ann_X_0001_0002.jpg Bob_Y_0001_0001.jpg 0\n"
  assert protocols.guess(write(tmp_path / "pairs.txt", text)) == "agedb"
  text = "10\t300\nAnn_X\t1\t2\n"
  assert protocols.guess(write(tmp_path / "xqlfw_pairs.txt", text)) == "lfw"


@pytest.mark.parametrize(
  ("protocol", "text", "message"),
  [
    ("rfw", "A 1 2\nA 1\n", "line 2: expected 'NAME I J'"),
    ("rfw", "A 1 x\n", "line 1: expected a number"),
    ("rfw", "A 1 1\n", "line 1: the pair .* repeats"),
    ("rfw", "A 1 A 2\n", "line 1: the pair .* repeats"),
    ("rfw", "../A 1 2\n", "line 1: .* leads out"),
    ("bfw", "fold,p1,p2\n", "line 1: there are no columns label"),
    ("bfw", "fold,p1,p2,label\n1,a.jpg,b.jpg\n", "line 2: expected 4 fields"),
    ("bfw", "fold,p1,p2,label\n1,a.jpg,b.jpg,x\n", "line 2: .*label of 0 or 1"),
    ("bfw", "fold,p1,p2,label\n1,/a.jpg,b.jpg,1\n", "line 2: .* leads out"),
    ("bfw", "fold,p1,p2,label\n", "lists no pair"),
  ],
)
def test_malformed_lists_of_groups(tmp_path, protocol, text, message):
  path = write(tmp_path / "list", text)
  with pytest.raises(ValueError, match=message):
    protocols.read_list(path, protocol)
