"""The `emma-viz` command: parsing only, one small file a sub-command; the work is done in `emma_viz.session`."""
