"""The kernels in Triton, which CUDA builds of torch bring along; `backend` is what the table of backends names."""
