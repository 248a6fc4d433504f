"""Programs that train models and lenses with emma_viz."""
