"""The rules of Google's services, without I/O."""
