"""The conformance suite: drives any M0 worker from outside and judges what it recorded."""
