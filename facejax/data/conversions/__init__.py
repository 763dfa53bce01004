"""Copying a set of images from one format to another."""
