"""Nets in the formats of others: ONNX, StableHLO, PyTorch, safetensors."""
