"""Pages that open offline from one file."""
