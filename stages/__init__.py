"""One short script per DVC stage: read inputs, call the package, write outputs."""

import gc
import sys
from functools import partial

from permeation import config
from permeation.frame import stage
from permeation.frame.signals import end_with_dvc

end_with_dvc()

# What a stage imports makes half a million objects, none of them garbage. Python's collector would look through them
# again and again, for a fifth of the time that the imports take. permeation.frame.stage.run switches it on again.
# While Python looks for the stage of `python -m stages.…`, this is what stands in sys.argv.
if sys.argv[0] == "-m":
    gc.disable()

Stage = stage.Stage[config.Config]
run = partial(stage.run, load=config.load)
