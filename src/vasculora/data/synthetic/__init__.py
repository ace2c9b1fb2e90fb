"""Drawn pictures with known truth: vessel trees in several styles, and coloured shapes."""
