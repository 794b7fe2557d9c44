"""What bad requests are answered with: status, JSON, codes, unknown routes."""
