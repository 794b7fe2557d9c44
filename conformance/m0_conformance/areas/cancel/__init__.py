"""POST /cancel: running, waiting, finished and unknown jobs, and how soon."""
