"""Fitting lenses on states alone: what asks a model stands in `emma_viz.session.fitting`."""
