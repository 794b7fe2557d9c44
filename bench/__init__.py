"""Speed and memory, never in a timed unit test: each figure beside what a user would pick instead, in the same run."""
