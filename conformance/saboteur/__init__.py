"""The saboteur: a launcher and proxy in front of any worker that lies on purpose, so that the suite proves itself."""
