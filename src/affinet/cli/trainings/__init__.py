"""From a job to a training: its data, network, rules and optimizer, and one epoch after the other."""
