"""The kernels for a CPU, compiled by numba; `emma_viz.kernels.cpu` is the backend."""
