"""Figures for print, drawn by matplotlib on one sheet."""
