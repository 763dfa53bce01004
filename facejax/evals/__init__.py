"""Evaluations of a trained network, and the files that report them."""
