"""Read and check job files; every mistake is reported with its key and its line."""
