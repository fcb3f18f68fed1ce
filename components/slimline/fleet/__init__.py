"""What authority and device both speak: campaigns, descriptors, waves, reports, signed metadata."""
