"""Why this room exists: few levels cost less accuracy when the network is trained in them."""
