"""What AWS has to know of the components: one IAM policy for each, made from its class."""
