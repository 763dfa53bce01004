"""Random changes of training images: pure functions of image and generator."""
