"""Losses as pure functions: arrays in, per-example arrays out."""
