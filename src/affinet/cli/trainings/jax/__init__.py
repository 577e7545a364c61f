"""Train the built-in network of a job with JAX and Optax."""
