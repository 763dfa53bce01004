"""Aligning a folder of photos by their landmarks."""
