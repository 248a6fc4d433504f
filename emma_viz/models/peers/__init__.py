"""Vision-language models that transformers' own classes run: what a family of them says of itself, and the adapter."""
