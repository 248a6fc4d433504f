"""The script that Streamlit runs for every visitor and every change: the frame, and the page that was asked for."""

from apps.casebook.frame import show_page

show_page()
