"""The subcommands of `facesr`: a command line each; the work is done in the wings."""
