"""Probes: examine a checkpoint that nobody has examined; one file each, behind one protocol."""
