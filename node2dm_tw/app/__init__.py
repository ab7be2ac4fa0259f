"""The process: options, wiring, reload, and stop."""
