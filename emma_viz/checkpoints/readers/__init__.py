"""Readers of strangers' weights: safetensors, zip archives and pickles that execute nothing."""
