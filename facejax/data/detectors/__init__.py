"""Detectors: what finds the faces of a photograph, and their five points."""
