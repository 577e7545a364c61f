"""Train the built-in network of a job with Keras."""
