"""Training in general: runs that checkpoint and resume, optimisers, losses of text, processes."""
