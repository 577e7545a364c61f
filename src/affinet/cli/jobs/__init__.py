"""The job file: every key that a person may write, checked, and each mistake with its line."""
