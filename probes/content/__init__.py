"""Probes of what the tokens hold."""
