"""Pairs and templates to verify on: lists, packs, protocols."""
