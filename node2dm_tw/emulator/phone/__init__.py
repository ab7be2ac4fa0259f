"""node2dm-phone, and the client of the emulator's phone endpoints."""
