"""A job from its first to its last token: length, pace, /health meanwhile, one model for life."""
