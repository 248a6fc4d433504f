"""The rows of `python -m benchmarks.run`: what is measured, beside what, and what it should be."""
