"""One worker's whole life, two workers side by side, SIGTERM while a job runs."""
