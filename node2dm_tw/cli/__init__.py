"""node2dm-push."""
