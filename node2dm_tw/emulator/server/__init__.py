"""The emulator on the network."""
