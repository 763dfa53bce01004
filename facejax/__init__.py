"""facejax: face recognition training in JAX, sharded by class.

Importing this package starts no JAX backend and imports none of its parts:
`import facejax.losses.margins` (and so on) brings what you need.
"""

__version__ = "0.1.0"
