"""A set of images judged by embeddings of its own: wrong labels and copies."""
