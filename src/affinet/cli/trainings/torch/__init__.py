"""Train the network of a job with torch, by any of its optimizers and methods."""
