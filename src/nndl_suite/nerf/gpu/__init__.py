"""The radiance field's kernels on tensors: Triton on CUDA, batched torch anywhere else (`chosen` decides)."""
