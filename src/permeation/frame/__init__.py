"""What every room stands on: files, errors, the journal, devices, workers. Never what is found."""
