"""Evaluations of a trained network, as results."""
