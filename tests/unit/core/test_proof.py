"""What the network says of a block, and what that means."""
