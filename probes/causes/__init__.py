"""Probes of what tokens do to one another and to the answer."""
