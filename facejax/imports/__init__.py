"""Weights that others wrote: PyTorch checkpoints and safetensors, as arrays."""
