"""Nets in the formats of others, both ways."""
