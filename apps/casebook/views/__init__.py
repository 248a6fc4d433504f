"""What the casebook shows: the gallery, one case, the figures over all.

Not `pages`: Streamlit would run every file of a folder of that name as a page of its own.
"""
