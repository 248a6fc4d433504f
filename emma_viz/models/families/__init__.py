"""Families of models, a file each: what tells the members of one from all other models."""
