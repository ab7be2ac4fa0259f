"""node2dm-phone, and the client of the emulator that it uses."""
