"""The event stream: content type, SSE framing, order of events, end of the stream."""
