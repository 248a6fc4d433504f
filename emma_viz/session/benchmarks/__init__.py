"""Benchmarks on the one road: models asked, answers kept in a run's folder, scored with intervals, and written."""
