"""Reading and writing files: whole or not at all, within a budget, and never outside the folder that was meant."""
