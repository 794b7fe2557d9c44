"""What goes over the wire and what is kept of it: client, strict parsers, recordings, store, redaction."""
