"""Faces in photographs: found, aligned, put back. Nothing here knows of a network that enlarges."""
