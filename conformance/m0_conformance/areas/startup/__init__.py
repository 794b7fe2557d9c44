"""Start and end without a job: order of events, readiness, progress, SIGTERM while idle."""
