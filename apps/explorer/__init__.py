"""The explorer: two or more models, layer by layer, in the browser."""
