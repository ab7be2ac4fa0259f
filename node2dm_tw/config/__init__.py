"""From a configuration file to settings."""
