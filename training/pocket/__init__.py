"""The pocket family: its scenes, encoder, text stage, members and bundle."""
