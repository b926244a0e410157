"""Photographs composed of faces, and what is measured on them."""
