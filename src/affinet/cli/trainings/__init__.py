"""Turn a job into data, a network with its rules, and trainings of it."""
