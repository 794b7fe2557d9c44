"""The only room that opens sockets: client, strict SSE parser, and the transcript both write to."""
