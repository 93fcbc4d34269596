"""One short script per DVC stage: read inputs, call the package, write outputs."""

from functools import partial

from permeation import config
from permeation.frame import stage
from permeation.frame.signals import end_with_dvc

end_with_dvc()

Stage = stage.Stage[config.Config]
run = partial(stage.run, load=config.load)
