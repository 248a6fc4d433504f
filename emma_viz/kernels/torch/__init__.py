"""The kernels in plain PyTorch; `backend` is what the table of backends names."""
