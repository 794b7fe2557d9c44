"""Device memory that runs out, and the reference models' shapes."""
