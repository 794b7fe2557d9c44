"""POST /execute's parameters: each limit from both sides, defaults, and the same job in other words."""
