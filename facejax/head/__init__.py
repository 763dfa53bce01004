"""The classification head: one prototype a class, sharded by class."""
