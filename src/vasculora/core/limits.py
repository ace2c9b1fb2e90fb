"""Bounds on what is opened, so that one file cannot take all memory."""

MAX_PIXELS = 175_000_000
"""Largest image that is opened; just under Pillow's own limit."""
