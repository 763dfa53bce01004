"""Sets of embeddings: their files, nearest neighbours, clusters, galleries."""
