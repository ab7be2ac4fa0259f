"""How pushes come in: bytes become a Push on the queue of its route."""
