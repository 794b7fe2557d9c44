"""What the events say: fields of started, token, end and error."""
