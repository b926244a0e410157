"""The runner of experiments: protocols, their runs, and the command."""
