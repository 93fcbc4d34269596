"""The weight axis: what the heads' W_QK share. Tensors in, tensors out; no files, no printing."""
