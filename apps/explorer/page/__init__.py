"""The page, as Gradio builds it."""
