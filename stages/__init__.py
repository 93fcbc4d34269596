"""One short script per DVC stage: read inputs, call the package, write outputs."""

from permeation.stage import end_with_dvc

end_with_dvc()
