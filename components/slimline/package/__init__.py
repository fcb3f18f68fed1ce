"""Build what leaves the pipeline: one signed tree, the same for an endpoint and a device."""
