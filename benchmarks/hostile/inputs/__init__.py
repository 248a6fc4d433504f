"""What a stranger may hand in, made by seed."""
