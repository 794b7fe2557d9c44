"""GET /metrics, deferred by the spec."""
