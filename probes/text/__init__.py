"""Probes of a language model alone, on text."""
