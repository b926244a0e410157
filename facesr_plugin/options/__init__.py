"""Option files: their types, the check of what they name, how one is read, and whether a state fits."""
