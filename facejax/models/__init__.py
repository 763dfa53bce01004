"""Backbones: images in, embeddings out. The only part that imports flax."""
