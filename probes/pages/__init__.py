"""The report of the probes: its page, its tables, its charts."""
