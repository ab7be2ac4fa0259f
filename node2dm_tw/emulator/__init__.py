"""The side of Google: sign-in, C2DM, and phones, on this machine."""
