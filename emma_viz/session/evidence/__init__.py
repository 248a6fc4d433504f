"""Evidence of a case: what a model held of what a question asks about, layer by layer, and what its answer hung on."""
