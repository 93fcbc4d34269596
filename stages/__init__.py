"""One short script per DVC stage: read inputs, call the package, write outputs."""
