"""The wire: one request out, one response back."""
