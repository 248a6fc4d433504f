"""Build, check and try a release: `scripts/release`, of whose tools alone it is made."""
