"""The benchmark: what is compared, how it is timed, and the command."""
