"""The emulator on the network: HTTP, TLS, and the service that twistd runs."""
