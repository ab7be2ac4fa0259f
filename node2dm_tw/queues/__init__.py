"""Where pushes wait until they are settled."""
