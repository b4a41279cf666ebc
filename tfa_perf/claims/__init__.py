"""Measuring claims: paired timing of two sides."""
