"""Two running workers side by side over HTTP: greedy agreement, the first differing token, and timing."""
