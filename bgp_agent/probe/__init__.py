"""Which node does the network hand a block's packets to: asked with a packet, both ways."""
