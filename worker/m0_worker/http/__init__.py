"""The HTTP room: routes, request schema, SSE framing. Never imports a device."""
