"""Faces drawn from a parametric model."""
