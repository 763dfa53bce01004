"""Alignment of faces by five points: python -m facejax.data.align SRC DST.

The command, and what it does with one photo, for programs.
"""

import sys

from facejax.data.aligning import command, landmarks

LandmarkError = landmarks.LandmarkError
align = landmarks.align
check_landmarks = landmarks.check_landmarks
similarity_transform = landmarks.similarity_transform
template = landmarks.template
warp = landmarks.warp

main = command.main
parser = command.parser

if __name__ == "__main__":
  sys.exit(main())
