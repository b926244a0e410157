"""From files to samples: LMDB or folder -> uint8 RGB patch and its blur kernels, in a reproducible order."""
