"""docs/results.md: what the members of a bundle keep and answer, measured over images and seeds."""
