"""What the upstream push services speak, and how one signs in to them."""
