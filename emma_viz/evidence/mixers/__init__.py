"""What the mixers of a model mix, with their routing held."""
